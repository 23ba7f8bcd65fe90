"""Where files lie: in folders of this machine, or in a store such as S3, which pyarrow reads."""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from retrain.classifier import find_pictures
from retrain.dataset import PART_NAMES, UNKNOWN, Dataset
from retrain.errors import RetrainError
from retrain.images import MAX_BYTES, ImageError, read

REMOTE = re.compile(r"(s3|gs)://")
AT_ONCE = 16  # files of a store that are on their way to one worker: each takes long to begin


def is_remote(place):
    """Whether that is the address of a store rather than the path of a file."""
    return REMOTE.match(str(place)) is not None


def require_local(*places):
    """Raise RetrainError where one of these folders does not lie on this machine."""
    for place in filter(is_remote, places):
        raise RetrainError(f"{place} is no folder of this machine.", "Mount the store, and name the folder.")


@dataclass
class Reader:
    """Reads files by their names; can be sent to other machines.  stores: address → pyarrow's filesystem, path."""

    stores: dict[str, tuple[Any, str]] = field(default_factory=dict)

    @property
    def at_once(self):
        """How many files are best read side by side."""
        return AT_ONCE if self.stores else 1

    def read(self, name):
        """Bytes of a file.  Raises ImageError: `unreadable`, or `too_large`."""
        if not is_remote(name):
            return read(name)
        # Each address its own: two buckets may lie in two regions, or at two providers.
        address = max((each for each in self.stores if f"{name}/".startswith(f"{each}/")), key=len)
        filesystem, root = self.stores[address]
        try:
            with filesystem.open_input_stream(root + name.removeprefix(address)) as stream:
                data = stream.read(MAX_BYTES + 1)
        except (OSError, ValueError) as error:
            raise ImageError("unreadable", str(error)) from error
        if len(data) > MAX_BYTES:
            raise ImageError("too_large", f"the limit is {MAX_BYTES / 1e6:.0f} MB")
        return data


def find_files(places):
    """Names of the files in folders, of files, and of what lies below addresses such as s3://bucket/folder.

    Returns [name] in order, and the Reader for these.  Raises RetrainError.
    """
    names, reader = [], Reader()
    for place in places:
        if is_remote(place):
            names += _list_remote(str(place), reader)
        else:
            names += map(str, find_pictures([place]))
    return names, reader


def find_remote_dataset(place, only=()):
    """As `retrain.dataset.find_dataset`, below an address; and the Reader for it.  Raises RetrainError."""
    names, reader = find_files([place])
    found = list(_labelled(place, names))
    files = [row for row in found if not row[0].startswith("_") and (not only or row[0] in only)]
    classes = sorted({label for label, *_ in files})
    lost = sorted(set(only) - set(classes))
    if lost or not classes:
        raise RetrainError(f"{place} holds no class {', '.join(lost)}".rstrip() + ".", "Check the address.")
    dataset = Dataset(
        classes,
        [name for _, name, _ in files],
        [classes.index(label) for label, *_ in files],
        [part for *_, part in files] if files[0][2] else None,
        [name for label, name, _ in found if label == UNKNOWN],
    )
    return dataset, reader


def _labelled(place, names):
    """Yield (label, name, part) of files in class folders; part: None where the data set is in one piece."""
    folders = {name: name_below(place, name).split("/")[:-1] for name in names}
    parts = {path[0] for path in folders.values() if path} & PART_NAMES.keys()
    for name, path in folders.items():
        part = PART_NAMES[path.pop(0)] if path and path[0] in parts else None
        if path and (part or not parts or path[0] == UNKNOWN):
            yield path[0], name, part


def name_below(place, name):
    """The name of a file relative to the folder or address that it was found under, with `/` between folders."""
    if is_remote(place):
        return name.removeprefix(without_secrets(place)).lstrip("/") or PurePosixPath(name).name
    path = Path(name)
    return path.name if path == Path(place) else path.relative_to(place).as_posix()


def open_filesystem(place):
    """pyarrow's filesystem for a folder or an address, and the path of the place in it.  Raises RetrainError."""
    types = _pyarrow()
    if not is_remote(place):
        return types.LocalFileSystem(), str(Path(place).absolute())
    try:
        return types.FileSystem.from_uri(place)
    except (OSError, ValueError) as error:
        raise _refused(place, error) from error


def without_secrets(place):
    """An address without what may stand before the @ and behind the ?: keys and settings.  A path as it is."""
    if not is_remote(place):
        return str(place)
    scheme, _, rest = str(place).partition("?")[0].partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}".rstrip("/")


def _refused(place, error):
    return RetrainError(
        f"{without_secrets(place)} cannot be read or written: {error}.", "Check the address and the credentials."
    )


def _list_remote(place, reader):
    types, address = _pyarrow(), without_secrets(place)
    filesystem, root = reader.stores[address] = open_filesystem(place)
    try:
        info = filesystem.get_file_info(root)
        if info.type == types.FileType.File:
            return [address]
        found = filesystem.get_file_info(types.FileSelector(root, recursive=True))
    except (OSError, ValueError) as error:
        raise _refused(place, error) from error
    paths = [info.path for info in found if info.type == types.FileType.File and not _is_hidden(info.path, root)]
    return [address + path.removeprefix(root) for path in sorted(paths, key=lambda path: path.split("/"))]


def _is_hidden(path, root):
    return any(part.startswith(".") for part in path.removeprefix(root).split("/"))


def _pyarrow():
    # It looks for Amazon's own machines where nothing says what it is to use, and waits for them.
    os.environ.setdefault("AWS_EC2_METADATA_DISABLED", "true")
    try:
        import pyarrow.fs
    except ImportError:
        hint = "make setup-full, or pip install pyarrow; the image retrain:full holds it."
        raise RetrainError("this needs pyarrow, which is not installed.", hint) from None
    return pyarrow.fs

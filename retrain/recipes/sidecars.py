"""Files that belong to a picture: its RAW, its XMP, the film of a Live Photo.  They go where it goes."""

import os
from collections import defaultdict
from pathlib import Path

RAW = "3fr arw cr2 cr3 crw dcr dng erf iiq kdc mos mrw nef nrw orf pef raf raw rw2 rwl sr2 srf srw x3f"
SIDECARS = {f".{suffix}" for suffix in ["xmp", "json", "aae", "thm", "mov", *RAW.split()]}


def group(files):
    """Yield [picture, its sidecars …], folder by folder.  A sidecar without its picture stands alone."""
    folders = defaultdict(list)
    for path in files:
        folders[path.parent].append(path.name)
    for folder, names in sorted(folders.items()):
        # Not through links to folders: a move must take the file from where it really lies.
        real = Path(os.path.realpath(folder))
        yield from _group_folder([real / name for name in names])


def _group_folder(paths):
    pictures = [path for path in paths if path.suffix.lower() not in SIDECARS]
    owners = {path.stem: path for path in reversed(pictures)} | {path.name: path for path in pictures}
    groups = {path: [path] for path in pictures}
    for path in paths:
        if path not in groups:
            groups.setdefault(owners.get(path.stem, path), []).append(path)
    return groups.values()

"""Embed: every picture below a folder or an address → its embedding, in a folder of Parquet files.

    OUT/part-00000.parquet    some thousand rows, a file each; a part is there as a whole or not at all
    OUT/_SUCCESS              JSON, when every file has its row

A run that was stopped goes on where it was: what has a row keeps it.
"""

import hashlib
import json
import os
import re
import time
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np

import retrain
from retrain.backbones import load_backbone, names_of
from retrain.dataset import require_folder
from retrain.errors import RetrainError
from retrain.head import normalize
from retrain.options import EmbedOptions
from retrain.progress import track
from retrain.recipes.journal import plain_errors
from retrain.recipes.locking import locked
from retrain.scale import open_embedding
from retrain.scale.places import find_files, is_remote, name_below, open_filesystem, without_secrets

ROWS = 4096  # of a part; a kill loses at most so many
PART, SUCCESS, LOCK = "part-%05d.parquet", "_SUCCESS", ".lock"


def embed(source, out, options=EmbedOptions()):  # noqa: B008 - frozen
    """Write a row for each file below `source`: its path there, sha256, bytes, embedding and error.

    source: a folder, or an address such as s3://bucket/folder.  out: a folder, made where missing, or such an address.
    Embeddings are float32 (D,) of length 1, as `train` learns from them.
    In paths a byte that is not UTF-8 stands as \\xNN, and a backslash twice.
    Returns {"rows", "new", "parts", "skipped": [{"path", "reason"}] of the new ones, "dimensions", "backbone", "out",
    "seconds"}.  Raises RetrainError.
    """
    start = time.perf_counter()
    if not is_remote(source):
        require_folder(source)
    embed_all = open_embedding(options)
    names, reader = find_files([source])
    if not names:
        raise RetrainError(f"no files under {without_secrets(source)}.", "Name a place that holds pictures.")
    backbones = [load_backbone(name) for name in names_of(options.backbone)]
    with _Parts.open(out, source, backbones) as parts:
        there = len(parts.known)
        new = [name for name in names if parts.path_of(name) not in parts.known]
        rows = track(embed_all(new, backbones, reader), "Embedding", len(new))
        skipped = parts.write(rows)
        parts.finish()
    return {
        "rows": there + len(new),
        "new": len(new),
        "parts": parts.number,
        "skipped": skipped,
        "dimensions": parts.dimensions,
        "backbone": options.backbone,
        "out": str(out),
        "seconds": round(time.perf_counter() - start, 3),
    }


class _Parts:
    """The parts of one folder, which are only ever added to."""

    def __init__(self, out, source, backbones):
        self.source = source
        self.filesystem, self.root = open_filesystem(out)
        self.known: set[str] = set()  # paths that have a row
        self.number = self.rows = 0  # of parts and rows there
        self.dimensions = sum(backbone.spec.embedding_size for backbone in backbones)
        self.made_by = {"source": _mark(source), "networks": [backbone.fingerprint for backbone in backbones]}
        self.schema = _schema(self.dimensions, {"version": retrain.__version__, **self.made_by})

    @classmethod
    @contextmanager
    def open(cls, out, source, backbones):
        """Those of a folder, made where missing, that no other process of this machine adds to meanwhile."""
        with plain_errors(without_secrets(out)), nullcontext() if is_remote(out) else _locked(out, source):
            parts = cls(out, source, backbones)
            parts._read(out)
            yield parts

    def path_of(self, name):
        """How a file is called in its row: below the source, and in UTF-8 whatever its bytes; no two files alike."""
        return os.fsencode(name_below(self.source, name)).replace(b"\\", rb"\\").decode("utf-8", "backslashreplace")

    def write(self, rows):
        """Write a part for each so many rows, and the rest also where these end with an error.

        Returns [{"path", "reason"}] of files without an embedding.
        """
        waiting, skipped = [], []
        try:
            for row in rows:
                waiting.append(row)
                if row.error:
                    skipped.append({"path": row.name, "reason": str(row.error)})
                if len(waiting) == ROWS:
                    full, waiting = waiting, []  # first, so that no row is written twice wherever this is stopped
                    self._write(full)
        finally:
            if waiting:
                self._write(waiting)
        return skipped

    def finish(self):
        """Say that all is there."""
        told = {"rows": self.rows, "parts": self.number, **self.made_by}
        self._put(SUCCESS, json.dumps(told).encode())

    def _read(self, out):
        from pyarrow import ArrowException, parquet
        from pyarrow.fs import FileSelector

        for info in self.filesystem.get_file_info(FileSelector(self.root, allow_not_found=True)):
            if info.base_name.startswith(".") or info.base_name == SUCCESS:
                continue
            try:
                with self.filesystem.open_input_file(info.path) as file:
                    part = parquet.ParquetFile(file)
                    made_by = json.loads(part.schema_arrow.metadata[b"retrain"])
                    paths = part.read(["path"])["path"].to_pylist()
            except (ArrowException, OSError, KeyError, TypeError, ValueError) as error:
                raise RetrainError(f"{info.path} is no part of ours: {error}.", "Name another --out.") from error
            if {key: made_by.get(key) for key in self.made_by} != self.made_by:
                raise RetrainError(f"{out} holds embeddings of other files or networks.", "Name another --out.")
            self.known.update(paths)
            self.rows += len(paths)
            self.number = max(self.number, int(re.sub(r"\D", "", info.base_name) or 0) + 1)

    def _write(self, rows):
        from pyarrow import BufferOutputStream, parquet

        content = BufferOutputStream()
        # Embeddings are noise to a compressor, and none is another's like.
        parquet.write_table(self._table(rows), content, compression="zstd", use_dictionary=["error"])
        self._put(PART % self.number, content.getvalue())
        self.number, self.rows = self.number + 1, self.rows + len(rows)

    def _table(self, rows):
        import pyarrow

        embeddings = np.zeros((len(rows), self.dimensions), np.float32)
        good = [number for number, row in enumerate(rows) if not row.error]
        if good:
            parts = zip(*(rows[number].parts for number in good), strict=True)
            embeddings[good] = normalize([np.stack(part) for part in parts])
        failed = pyarrow.array([row.error is not None for row in rows])
        columns = [
            [self.path_of(row.name) for row in rows],
            [row.digest.hex() or None for row in rows],
            [row.size for row in rows],
            pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(embeddings.ravel()), self.dimensions, mask=failed),
            [row.error and str(row.error) for row in rows],
        ]
        return pyarrow.table([pyarrow.array(column) for column in columns], schema=self.schema)

    def _put(self, name, content):
        """Write a file that is there as a whole or not at all."""
        path = f"{self.root}/{name}"
        if self.filesystem.type_name != "local":  # a store shows an object when its stream is closed
            with self.filesystem.open_output_stream(path) as stream:
                stream.write(content)
            return
        temporary = Path(self.root, f".{name}")  # what a kill leaves of it, the next run writes over
        try:
            with open(temporary, "wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def _schema(dimensions, told):
    import pyarrow

    fields = [
        ("path", pyarrow.string()), ("sha256", pyarrow.string()), ("bytes", pyarrow.int64()),
        ("embedding", pyarrow.list_(pyarrow.float32(), dimensions)), ("error", pyarrow.string()),
    ]  # fmt: skip
    return pyarrow.schema(fields, {"retrain": json.dumps(told)})


def _mark(source):
    """What tells one source from another, and nobody where it lies."""
    place = without_secrets(source) if is_remote(source) else os.path.realpath(source)
    return hashlib.sha256(os.fsencode(place)).hexdigest()[:16]


@contextmanager
def _locked(out, source):
    folder = Path(out)
    if not is_remote(source) and Path(os.path.realpath(out)).is_relative_to(os.path.realpath(source)):
        raise RetrainError(f"{out} lies in {source}, and would be read as pictures.", "Name a folder elsewhere.")
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / LOCK, "embed", out):
        yield

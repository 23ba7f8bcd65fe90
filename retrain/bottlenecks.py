"""The embedding store, and the pipeline that fills it: decode and embed on all cores, never twice.

Embeddings and the thumbnail, by which copies are told, are kept under the sha256 of the file's bytes and a fingerprint
of what made them, so a renamed file costs nothing and a changed file one recomputation.  A table of (path, size, mtime)
saves reading known files again.
"""

import hashlib
import logging
import os
import sqlite3
import threading
import time
from collections import namedtuple
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from retrain.backbones.gpu import open_embedder
from retrain.errors import RetrainError
from retrain.images import DECODER_VERSION, THUMBNAIL_SIDE, ImageError, decode, read, thumbnail
from retrain.parallel import chunks, ordered_map
from retrain.progress import track

AT_ONCE = 128  # pictures that a GPU embeds while the next ones are decoded
COMMIT_EVERY_S = 1.0  # a kill loses at most what came in since
BUSY_TIMEOUT_S = 30  # another process may be writing

SCHEMA = """
CREATE TABLE IF NOT EXISTS embeddings
    (sha256 BLOB, fingerprint TEXT, embedding BLOB, PRIMARY KEY (sha256, fingerprint));
CREATE TABLE IF NOT EXISTS files (path BLOB PRIMARY KEY, size INTEGER, mtime_ns INTEGER, sha256 BLOB) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS parts (share REAL, sha256 BLOB, tested INTEGER, PRIMARY KEY (share, sha256)) WITHOUT ROWID;
"""
WAL = "journal_mode=WAL", "synchronous=NORMAL"
# Network drives and some mounted folders have no shared memory, which WAL needs between processes.
NO_WAL = "locking_mode=EXCLUSIVE", "journal_mode=DELETE", "locking_mode=NORMAL"

log = logging.getLogger("retrain")


class Store:
    """Embeddings in SQLite.  Never a reason to fail: a store that breaks is set aside and work goes on in memory."""

    def __init__(self, path):
        """path: the file, made when missing; None keeps everything in memory."""
        self.path = path and Path(path)
        self._lock = threading.Lock()
        self._new_embeddings: dict[tuple[bytes, str], bytes] = {}  # written by the next commit
        self._new_files: dict[bytes, tuple[int, int, bytes]] = {}
        self._last_commit = time.monotonic()
        self._connection = self._open()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._commit()
        with self._lock:  # an interrupt leaves threads behind that still ask
            if self._connection:
                self._connection.close()
            self._connection = None

    def digest_of(self, path, status):
        """sha256 noted for a file whose size and mtime are still the same, or None."""
        query = "SELECT sha256 FROM files WHERE path = ? AND size = ? AND mtime_ns = ?"
        row = self._run(lambda connection: connection.execute(query, (_key(path), *_stamp(status))).fetchone())
        return row and row[0]

    def files(self):
        """{path: sha256} of all files known, which may be gone."""
        rows = self._run(lambda connection: connection.execute("SELECT path, sha256 FROM files").fetchall())
        return {Path(os.fsdecode(path)): digest for path, digest in rows or ()}

    def get(self, digest, fingerprint, dtype=np.float32):
        """Embedding (D,), or None."""
        key = digest, fingerprint
        row = self._new_embeddings.get(key)
        if row is None:
            query = "SELECT embedding FROM embeddings WHERE sha256 = ? AND fingerprint = ?"
            found = self._run(lambda connection: connection.execute(query, key).fetchone())
            row = found and found[0]
        return row and np.frombuffer(row, dtype)

    def put(self, digest, fingerprint, embedding):
        with self._lock:
            self._new_embeddings[digest, fingerprint] = embedding.tobytes()

    def note(self, path, status, digest):
        """Remember which bytes a file held, and commit from time to time."""
        with self._lock:
            self._new_files[_key(path)] = *_stamp(status), digest
        if time.monotonic() - self._last_commit > COMMIT_EVERY_S:
            self._commit()

    def tested(self, share):
        """{digest: whether the last training with that test share that met the picture kept it back}."""
        query = "SELECT sha256, tested FROM parts WHERE share = ?"
        rows = self._run(lambda connection: connection.execute(query, (share,)).fetchall())
        return {digest: bool(tested) for digest, tested in rows or ()}

    def note_tested(self, share, tested):
        """tested: as `tested` returns it."""
        rows = [(share, digest, kept_back) for digest, kept_back in tested.items()]

        def write(connection):
            with connection:
                connection.executemany("REPLACE INTO parts VALUES (?, ?, ?)", rows)

        self._run(write)

    def _commit(self):
        # All at once, because another process may not write while a transaction is open.
        if self._new_embeddings or self._new_files:
            self._run(self._write)
        self._last_commit = time.monotonic()

    def _write(self, connection):
        embeddings = ((*key, row) for key, row in self._new_embeddings.items())
        files = ((key, *row) for key, row in self._new_files.items())
        with connection:
            connection.executemany("REPLACE INTO embeddings VALUES (?, ?, ?)", embeddings)
            connection.executemany("REPLACE INTO files VALUES (?, ?, ?, ?)", files)
        self._new_embeddings.clear()
        self._new_files.clear()

    def _run(self, work):
        """What work(connection) returns; None where the file fails, or there is none."""
        with self._lock:
            if self._connection is None:
                return None
            try:
                return work(self._connection)
            except sqlite3.Error as error:
                self._connection.close()
                self._set_aside(error)
                self._connection = self._open()
                return None

    def _open(self):
        if self.path:
            for pragmas in (WAL, NO_WAL):
                try:
                    self.path.parent.mkdir(parents=True, exist_ok=True)
                    return _connect(self.path, pragmas)
                except (sqlite3.OperationalError, OSError) as error:
                    problem = error
                except sqlite3.DatabaseError as error:
                    self._set_aside(error)
                    return self._open()
            log.warning("%s cannot be used (%s): embeddings are not kept.", self.path, problem)
            self.path = None
        return None

    def _set_aside(self, error):
        if isinstance(error, sqlite3.OperationalError):  # full, locked or unreachable: the file itself may be sound
            log.warning("%s cannot be written (%s): embeddings are not kept.", self.path, error)
            self.path = None
            return
        aside = self.path.with_name(f"{self.path.name}.broken-{time.time_ns()}")
        try:
            self.path.rename(aside)
            for journal in ("-wal", "-shm", "-journal"):
                self.path.with_name(self.path.name + journal).unlink(missing_ok=True)
            log.warning("%s is damaged (%s): set aside as %s and built anew.", self.path, error, aside.name)
        except OSError as failure:
            log.warning("%s is damaged and cannot be set aside (%s).", self.path, failure.strerror)
            self.path = None


def erase(path, digests):
    """Delete all that the store in a file keeps of files with these sha256, so that no byte of it is left there.

    Stores that broke and were set aside go whole.  Returns how many rows of embeddings were deleted, and the paths of
    the files they were of.  Raises RetrainError.
    """
    try:
        for broken in path.parent.glob(f"{path.name}.broken-*"):
            broken.unlink()
        if not path.exists():
            return 0, []
        with closing(_connect(path, WAL)) as connection:
            return _erase(connection, [(digest,) for digest in digests])
    except (sqlite3.Error, OSError) as error:
        raise RetrainError(
            f"{path} still holds what was to be deleted: {error}.",
            "End what else uses it, and run the same command again; or delete the file: it is made anew.",
        ) from error


def digests_marked(path, mark):
    """sha256 of all files of which a store keeps something whose fingerprint holds a mark.  Raises RetrainError."""
    if not path.exists():
        return set()
    query = "SELECT DISTINCT sha256 FROM embeddings WHERE instr(fingerprint, ?)"
    try:
        with closing(_connect(path, WAL)) as connection:
            return {digest for (digest,) in connection.execute(query, (mark,))}
    except sqlite3.Error as error:
        raise RetrainError(f"{path} cannot be read: {error}.", "Delete the file: it is made anew.") from error


def _erase(connection, digests):
    paths, rows = [], 0
    connection.execute("PRAGMA secure_delete=ON")
    with connection:
        for digest in digests:
            paths += connection.execute("SELECT path FROM files WHERE sha256 = ?", digest).fetchall()
            rows += connection.execute("DELETE FROM embeddings WHERE sha256 = ?", digest).rowcount
            connection.execute("DELETE FROM files WHERE sha256 = ?", digest)
            connection.execute("DELETE FROM parts WHERE sha256 = ?", digest)
    connection.execute("VACUUM")
    (busy, *_) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    if busy:
        raise sqlite3.OperationalError("another process reads it")
    return rows, [Path(os.fsdecode(path)) for (path,) in paths]


def _key(path):
    return os.fsencode(path.absolute())


def _stamp(status):
    # SQLite counts up to 2**63, which in nanoseconds ends in the year 2262; clocks and archives go further.
    return status.st_size, status.st_mtime_ns % 2**63


def _connect(path, pragmas):
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, check_same_thread=False)
    try:
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}")
        connection.executescript(SCHEMA)
    except sqlite3.Error:
        connection.close()
        raise
    return connection


@dataclass
class Embedded:
    """Embeddings of the files that are pictures, in the order given, and the others with their reason."""

    kept: list[int]  # positions in the list of files
    digests: list[bytes]  # sha256 of each kept file
    joined: np.ndarray  # embeddings of all backbones side by side, float32 (len(kept), sum of sizes)
    sizes: list[int]  # of each backbone's embedding
    thumbnails: np.ndarray  # gray, uint8 (len(kept), THUMBNAIL_SIDE²)
    others: list[np.ndarray]  # for each further kind (len(kept), size)
    skipped: list[tuple[Path, ImageError]]
    computed: int  # files that were decoded; the others came from the store

    @property
    def embeddings(self):
        """For each backbone float32 (len(kept), D): parts of `joined`, no copies."""
        return np.split(self.joined, np.cumsum(self.sizes)[:-1], axis=1) if self.sizes else []


# What is kept of a picture: an array of `size` numbers, which `make` makes of the decoded picture; where there is a
# `finish`, that makes it of what `make` made of many pictures.
Kind = namedtuple("Kind", "fingerprint dtype size make finish", defaults=[None])
_Known = namedtuple("_Known", "digest arrays made status")  # made: numbers of the kinds that the store did not have
_THUMBNAIL = Kind(f"thumbnail{THUMBNAIL_SIDE}-decoder{DECODER_VERSION}", np.uint8, THUMBNAIL_SIDE**2, thumbnail)


def embed_files(paths, backbones, store, further=()):
    """Embed picture files with each backbone.  A bad file is a row in `skipped`, never an end.

    further: what else is to be made of each picture while it is decoded, a Kind each.
    """
    kept: list[int] = []
    digests: list[bytes] = []
    skipped, computed = [], 0
    networks = [_embedding(backbone, len(paths)) for backbone in backbones]
    kinds, sizes = [*networks, _THUMBNAIL, *further], [kind.size for kind in networks]
    joined = np.empty((len(paths), sum(sizes)), np.float32)
    made = [np.empty((len(paths), kind.size), kind.dtype) for kind in kinds[len(networks) :]]
    rows = [*(np.split(joined, np.cumsum(sizes)[:-1], axis=1) if sizes else []), *made]
    results = ordered_map(lambda path: _know_file(path, kinds, store), paths)
    for number, result in enumerate(track(_finished(results, kinds), "Embedding", len(paths))):
        if isinstance(result, ImageError):
            skipped.append((paths[number], result))
            continue
        for each in result.made:
            store.put(result.digest, kinds[each].fingerprint, result.arrays[each])
        computed += bool(result.made)
        if result.status:
            store.note(paths[number], result.status, result.digest)
        for row, array in zip(rows, result.arrays, strict=True):
            row[len(kept)] = array
        kept.append(number)
        digests.append(result.digest)
    thumbnails, *others = (row[: len(kept)] for row in made)
    return Embedded(kept, digests, joined[: len(kept)], sizes, thumbnails, others, skipped, computed)


def _embedding(backbone, pictures):
    size, embed = backbone.spec.embedding_size, open_embedder(backbone, pictures)
    if embed:  # half precision differs in the last digits
        return Kind(f"{backbone.fingerprint}:half", np.float32, size, backbone.to_input, embed)
    return Kind(backbone.fingerprint, np.float32, size, lambda image: backbone.embed(backbone.to_input(image)[None])[0])


def _finished(results, kinds):
    """The results, with what is made of many pictures at once made: of some while the next are decoded."""
    if not any(kind.finish for kind in kinds):
        return results
    finished = ordered_map(lambda chunk: _finish(chunk, kinds), chunks(results, AT_ONCE), workers=1, ahead=2)
    return chain.from_iterable(finished)


def _finish(results, kinds):
    for number, kind in enumerate(kinds):
        halfway = [known for known in results if isinstance(known, _Known) and number in known.made]
        if kind.finish and halfway:
            made = kind.finish(np.stack([known.arrays[number] for known in halfway]))
            for known, array in zip(halfway, made, strict=True):
                known.arrays[number] = array
    return results


def _know_file(path, kinds, store):
    try:
        status = os.stat(path)
        digest = store.digest_of(path, status)
        stored = _stored(digest, kinds, store) if digest else [None]
        if _complete(stored):
            return _Known(digest, stored, (), None)
        data = read(path)
        digest = hashlib.sha256(data).digest()
        stored = _stored(digest, kinds, store)
        if _complete(stored):
            return _Known(digest, stored, (), status)
        image = decode(data)
        missing = [number for number, known in enumerate(stored) if known is None]
        for number in missing:
            stored[number] = kinds[number].make(image)
        return _Known(digest, stored, missing, status)
    except ImageError as error:
        return error
    except OSError as error:
        return ImageError("unreadable", error.strerror)


def _stored(digest, kinds, store):
    return [store.get(digest, kind.fingerprint, kind.dtype) for kind in kinds]


def _complete(arrays):
    return all(array is not None for array in arrays)

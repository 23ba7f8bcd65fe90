"""Crawl: from words to a folder of pictures a class, each with its source, author and licence.

    DATA/daisy/openverse-….jpg
    DATA/manifest.jsonl        one line a picture, never changed: what it is and where it comes from
    DATA/ATTRIBUTION.md        who is to be named
    DATA/.retrain-crawl/       what was refused, and downloads that a kill has interrupted

A download is on the disk byte by byte as it comes, and its line before it gets its place, so a crawl that was killed
goes on without losing a picture, or fetching one twice that was here as a whole; what was on its way, at most
AT_ONCE downloads, is asked for again.  Nor does a picture come back that somebody
has taken out of the folder.
"""

import hashlib
import json
import logging
import os
import re
from collections import Counter, deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import numpy as np

from retrain import fetch, images
from retrain.dataset import CRAWL_MANIFEST, walk
from retrain.duplicates import MIRRORED, SURE_BITS, WHOLE, perceptual_hashes
from retrain.errors import RetrainError, require_known
from retrain.fetch import Client, FetchError
from retrain.images import ImageError, decode, read, sniff, thumbnail
from retrain.options import CrawlOptions
from retrain.parallel import ordered_map
from retrain.progress import track
from retrain.recipes.locking import locked
from retrain.recipes.names import Names, folder_names, safe_name
from retrain.sources import SOURCES, require_sources, search
from retrain.sources.licences import WANTED, allows

MANIFEST, ATTRIBUTION, OWN = CRAWL_MANIFEST, "ATTRIBUTION.md", ".retrain-crawl"
MARK = "<!-- Made by retrain crawl from manifest.jsonl, and made anew by the next one. -->"
AT_ONCE = 4  # downloads, of all hosts
OFFERS = 20  # looked at for each picture wanted, at most
TRIES = 2  # to download a picture
UNKNOWN = "unknown, not for redistribution"
PASSING = ("quota", "busy", "unreachable", "too_slow", "broken_off")  # may be otherwise the next time
SUFFIXES = {"image/jpeg": ".jpg", "image/x-ms-bmp": ".bmp"}
REASONS = {
    "licence": "their licence does not allow it, or is unknown",
    "there_already": "offered before",
    "same_bytes": "the same file is there",
    "copy": "a copy of a picture that is there",
}

log = logging.getLogger("retrain")


def crawl(classes, out, options=CrawlOptions()):  # noqa: B008 - frozen
    """Fetch pictures of each class into `out/<label>/`, until it has as many as the options' limit.

    classes: {label: what to search for, one or several texts}.
    Returns {"classes": {label: {"pictures", "new", "refused": {reason: count}}}, "failures": [{"source", "query",
    "reason", "kind": a key of `retrain.fetch.REASONS`}], "manifest"}.  Raises RetrainError, also where no source can be
    reached.
    """
    require_known("licence choice", options.licence, WANTED)
    require_sources(options.sources, options.licence)
    _remind(classes, options)
    names, failures, told, answered = folder_names(classes), [], {}, False
    with _Collection.open(out, list(names.values())) as collection:
        try:
            for label, queries in classes.items():
                crawling = _Class(label, names[label], collection, options)
                before = collection.count(label)
                crawling.fill([queries] if isinstance(queries, str) else queries)
                failures += crawling.failures
                answered |= crawling.answered
                there = collection.count(label)
                told[label] = {"pictures": there, "new": there - before, "refused": dict(crawling.refused)}
        finally:
            collection.write_attribution()
    if not answered:
        _require_network(failures, told)
    rows = [
        {"source": source, "query": query, "reason": str(error), "kind": error.reason}
        for source, query, error in failures
    ]
    return {"classes": told, "failures": rows, "manifest": str(collection.path)}


def crawled_files(folder):
    """The pictures in a folder that a crawl has put there.  Raises RetrainError."""
    return {Path(folder) / row["file"] for row in _rows_of(Path(folder) / MANIFEST)[0] if _is_ours(row)}


def explain_reason(reason):
    """Why pictures were refused, in words."""
    return (REASONS | fetch.REASONS | images.REASONS)[reason]


def _remind(classes, options):
    queries = [
        text for label, texts in classes.items() for text in (label, *([texts] if isinstance(texts, str) else texts))
    ]
    if any(map(_may_be_a_person, queries)):
        log.warning("If that is a person: a picture's licence is not the person's consent.")
    if options.licence == "any":
        log.warning("Pictures without a known licence may not be handed on.")
    for name in options.sources:
        if SOURCES[name].is_engine:
            log.warning("The terms of %s may forbid to ask it by a program: that is for you to settle.", name)


def _may_be_a_person(query):
    """`Ludwig van Beethoven`: of several words, first and last begin with a capital."""
    words = re.sub("^category:", "", query.strip(), flags=re.IGNORECASE).replace("_", " ").split()
    return len(words) > 1 and words[0][0].isupper() and words[-1][0].isupper()


def _require_network(failures, told):
    """Raise RetrainError where some host was to be reached and none was."""
    unreachable = [str(error) for *_, error in failures if error.reason == "unreachable"]
    if any("unreachable" in row["refused"] for row in told.values()):
        unreachable.append("no host of the pictures can be reached.")
    if unreachable:
        raise NoNetworkError(
            f"no network: {unreachable[0]}",
            "Offline, --source urls takes addresses of a server of your own (RETRAIN_URLS_URL); or put pictures into a "
            "folder a class yourself.",
        )


class NoNetworkError(RetrainError):
    """Some host was to be reached, and none was."""


class _Class:
    """One class and the filling of it.

    refused: {reason: count}; failures: (source, query, FetchError); answered: whether any host was reached.
    """

    def __init__(self, label, folder, collection, options):
        self.label, self.folder, self.collection, self.options = label, folder, collection, options
        self._under_way: Counter[str] = Counter()  # by source
        self.refused: Counter[str] = Counter()
        self.failures: list[tuple[str, str, FetchError]] = []
        self.answered = False

    def fill(self, queries):
        wanted = self.options.limit - self.collection.count(self.label)
        if wanted > 0:
            for _ in track(self._kept(queries, wanted), self.label, wanted):
                pass

    def _kept(self, queries, wanted):
        """Yield for each picture that is kept.  No more downloads are under way than pictures are wanted."""
        offers = self._wanted(islice(self._offers(queries), OFFERS * self.options.limit))
        executor, waiting = ThreadPoolExecutor(AT_ONCE), deque[tuple]()
        try:
            while wanted:
                for candidate, query in islice(offers, min(AT_ONCE, wanted) - len(waiting)):
                    self._under_way[candidate.source] += 1
                    waiting.append((candidate, query, executor.submit(self.collection.fetch, candidate)))
                if not waiting:
                    return
                if self._takes(*waiting.popleft()):
                    wanted -= 1
                    yield
        finally:
            executor.shutdown(wait=False, cancel_futures=True)

    def _offers(self, queries):
        """(Candidate, query) of all sources and queries, in turn."""
        turns = deque((source, query) for source in self.options.sources for query in queries)
        client, licence = self.collection.client, self.options.licence
        searches = {(source, query): search(source, client, query, licence) for source, query in turns}
        while turns:
            source, query = turn = turns.popleft()
            if self._is_full(source):
                continue
            try:
                candidate = next(searches[turn], None)
            except FetchError as error:
                self.failures.append((source, query, error))
                continue
            self.answered |= bool(SOURCES[source].base_url)  # a list of addresses lies on the disk
            if candidate:
                turns.append(turn)
                yield candidate, query

    def _is_full(self, source):
        limit = self.options.max_per_source
        return limit is not None and self.collection.count(self.label, source) + self._under_way[source] >= limit

    def _wanted(self, offers):
        """Those worth a download."""
        for candidate, query in offers:
            width, height = self.options.min_size
            too_small = (candidate.width or width) < width or (candidate.height or height) < height
            if not allows(candidate.licence, self.options.licence):
                self.refused["licence"] += 1
            elif too_small:
                self.refused["too_small"] += 1
            elif self.collection.claim(candidate):
                yield candidate, query
            else:
                self.refused["there_already"] += 1

    def _takes(self, candidate, query, download):
        """Whether a picture, once it is here, is kept."""
        try:
            data = download.result()
            self.answered = True
            self.collection.keep(candidate, query, data, self.label, self.folder, self.options.min_size)
            return True
        except (FetchError, ImageError, _CopyError) as error:
            self.refused[error.reason] += 1
            self.answered |= bool(getattr(error, "reply", None))
            if error.reason not in PASSING:
                self.collection.refuse(candidate, error.reason)
            return False
        finally:
            self._under_way[candidate.source] -= 1


class _CopyError(Exception):
    """A picture that is there already.  reason: a key of REASONS."""

    def __init__(self, reason):
        super().__init__(reason)
        self.reason = reason


class _Collection:
    """The folder with the pictures of all classes, what is known of them, and how they are kept."""

    def __init__(self, folder):
        self.folder, self.own = Path(folder), Path(folder) / OWN
        self.path = self.folder / MANIFEST
        self.client = Client()
        self.rows: list[dict] = []
        self._known: set[tuple[str, str]] = set()  # source and id of all that was offered; "" and address
        self._digests: set[str] = set()
        self._hashes = np.empty((0, 2, 32), np.uint8)
        self._names: dict[str, Names] = {}

    @classmethod
    @contextmanager
    def open(cls, folder, class_folders):
        """The collection, this process's own as long as this lasts.  Raises RetrainError."""
        try:
            collection = cls(folder)
            collection.own.mkdir(parents=True, exist_ok=True)
            with locked(collection.own / "lock", "crawl", folder):
                collection._read()
                collection._finish()
                collection._look_at_pictures(class_folders)
                with closing(collection.client):
                    yield collection
        except OSError as error:
            hint = "Name a folder that you may write to, with room in it, and run the same command again."
            raise RetrainError(f"cannot crawl into {folder}: {error.strerror or error}.", hint) from error

    def count(self, label, source=None):
        """Pictures of a class that are still here, of one source or all."""
        return sum(
            row["label"] == label and source in (None, row["source"]) and (self.folder / row["file"]).exists()
            for row in self.rows
        )

    def claim(self, candidate):
        """Whether a picture was never offered before, nor from the same address; from now on it was."""
        keys = {(candidate.source, candidate.id), ("", candidate.image_url)}
        if not keys.isdisjoint(self._known):
            return False
        self._known |= keys
        return True

    def fetch(self, candidate):
        """The picture's bytes, which are on the disk from then on.  Raises FetchError.  Runs in threads."""
        path = self._download(candidate.source, candidate.id)
        with suppress(FileNotFoundError):
            if data := path.read_bytes():
                return data
        # Safe from a kill as it comes: its length tells whether it is whole. From a power cut when it gets its line.
        parts = list[Path]()

        def keep(length):
            parts.append(path.with_suffix(f".{length}.part"))
            return open(parts[-1], "wb")

        try:
            data = self.client.get(candidate.image_url, tries=TRIES, keep=keep).body
            parts[-1].replace(path)
        finally:
            for part in parts:
                part.unlink(missing_ok=True)
        return data

    def keep(self, candidate, query, data, label, folder, min_size):
        """Give a picture its line and its place.  Raises ImageError, _CopyError."""
        digest = hashlib.sha256(data).hexdigest()
        if digest in self._digests:
            raise _CopyError("same_bytes")
        image = decode(data)
        width, height = image.info["original_size"]
        if width < min_size[0] or height < min_size[1]:
            raise ImageError("too_small", f"{width} x {height} px")
        hashes = perceptual_hashes(thumbnail(image)[None])[:, [WHOLE, MIRRORED]]
        if (np.bitwise_count(self._hashes ^ hashes[:, :1]).sum(axis=2, dtype=int) <= SURE_BITS).any():
            raise _CopyError("copy")
        mime = sniff(data)
        suffix = SUFFIXES.get(mime, f".{mime.rpartition('/')[2]}")
        (self.folder / folder).mkdir(exist_ok=True)
        name = self._names[folder].give(safe_name(f"{candidate.source}-{candidate.id}"), suffix)
        row = _row(candidate, query, f"{folder}/{name}", label) | {
            "width": width, "height": height, "mime": mime, "sha256": digest,
        }  # fmt: skip
        _sync(self._download(candidate.source, candidate.id))
        _append(self.path, row)
        self._place(row)
        self._remember(row, hashes)

    def refuse(self, candidate, reason):
        """Never fetch that one again."""
        row = {"source": candidate.source, "id": candidate.id, "reason": reason, "image_url": candidate.image_url}
        _append(self.own / "refused.jsonl", row)
        self._download(candidate.source, candidate.id).unlink(missing_ok=True)

    def write_attribution(self):
        """Write who is to be named, unless somebody else's file is there."""
        path = self.folder / ATTRIBUTION
        if path.exists() and not path.read_text("utf-8", "replace").startswith(MARK):
            log.warning("%s is not of this program's making: it stays as it is.", path)
            return
        lines = [_credit(row) for row in self.rows if (self.folder / row["file"]).exists()]
        text = "\n".join([MARK, "", "# Pictures and their authors", "", *lines, ""])
        part = self.own / "attribution.part"
        part.write_bytes(text.encode(errors="replace"))
        part.replace(path)

    def _read(self):
        for row in _repaired_rows_of(self.path):
            if not _is_ours(row):
                raise RetrainError(f"{self.path} was not written by retrain crawl.", "Name another folder.")
            self.rows.append(row)
            self._digests.add(row["sha256"])
            self._known |= {(row["source"], row["id"]), ("", row.get("image_url"))}
        for row in _repaired_rows_of(self.own / "refused.jsonl"):
            self._known |= {(row["source"], row["id"]), ("", row.get("image_url"))}
            self._download(row["source"], row["id"]).unlink(missing_ok=True)

    def _finish(self):
        """Give the pictures their place that have a line and were not put there; the rest of a kill is removed."""
        for path in self.own.glob("*.part"):
            name, _, length = path.stem.partition(".")
            if length == str(path.stat().st_size):
                path.replace(path.with_name(name))
            else:
                path.unlink()
        for row in self.rows:
            if self._download(row["source"], row["id"]).exists():
                self._place(row)

    def _place(self, row):
        """From the downloads to its place, over which nothing is written."""
        path, target = self._download(row["source"], row["id"]), self.folder / row["file"]
        target.parent.mkdir(exist_ok=True)
        with suppress(FileExistsError):
            os.link(path, target)
        if not target.samefile(path) and target.read_bytes() != path.read_bytes():
            raise OSError(None, f"{target} is in the way")
        path.unlink()

    def _look_at_pictures(self, class_folders):
        """All that is here counts for copies, whoever has put it here."""
        for folder in class_folders:
            self._names[folder] = Names()
        folders = sorted(path for path in self.folder.iterdir() if path.is_dir() and path.name[0] != ".")
        paths = [path for folder in folders for path in walk(folder)]
        for path in paths:
            if path.parent.parent == self.folder and path.parent.name in self._names:
                self._names[path.parent.name].give(path.stem, path.suffix)
        seen = [found for found in ordered_map(_look_at, paths) if found]
        self._digests |= {digest for digest, _ in seen}
        if seen:
            self._hashes = perceptual_hashes(np.stack([small for _, small in seen]))[:, [WHOLE, MIRRORED]]

    def _remember(self, row, hashes):
        self.rows.append(row)
        self._digests.add(row["sha256"])
        self._hashes = np.concatenate([self._hashes, hashes])

    def _download(self, source, id):
        return self.own / hashlib.sha256(f"{source}/{id}".encode(errors="surrogatepass")).hexdigest()[:32]


def _look_at(path):
    """(sha256, thumbnail) of a file; None of what is no picture."""
    try:
        data = read(path)
        return hashlib.sha256(data).hexdigest(), thumbnail(decode(data))
    except ImageError:
        return None


def _row(candidate, query, file, label):
    licence = candidate.licence
    return {
        "file": file,
        "label": label,
        "source": candidate.source,
        "id": candidate.id,
        "landing_url": candidate.landing_url,
        "image_url": candidate.image_url,
        "creator": candidate.creator,
        "creator_url": candidate.creator_url,
        "license": licence and licence.id,
        "license_version": licence and licence.version,
        "license_url": licence and licence.url,
        "license_text": candidate.licence_text or (None if licence else UNKNOWN),
        "attribution": candidate.attribution or _attribution(candidate),
        "query": query,
        "retrieved_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _attribution(candidate):
    by = f"by {candidate.creator}" if candidate.creator else "author unknown"
    return f"{by}, {candidate.licence.name if candidate.licence else UNKNOWN}, from {candidate.source}"


def _credit(row):
    """One line of Markdown, whatever strangers have written."""
    text = " ".join(row["attribution"].split())
    parts = [
        _markdown(row["file"]),
        _markdown(text),
        *filter(None, map(_link, [row.get("landing_url"), row.get("license_url")])),
    ]
    return f"- {' · '.join(parts)}"


def _markdown(text):
    return re.sub(r"([\\`*_{}\[\]()#+!|~<>&])", r"\\\1", "".join(c if c.isprintable() else "?" for c in text))


def _link(url):
    return f"<{url}>" if isinstance(url, str) and re.fullmatch(r"https?://[^\s<>\\]+", url) else None


def _is_ours(row):
    """Whether a line can be of our writing; a manifest can come from a stranger."""
    wanted = ("file", "label", "source", "id", "sha256", "attribution")
    if not all(isinstance(row.get(name), str) for name in wanted):
        return False
    parts = Path(row["file"]).parts
    return len(parts) == 2 and not {"..", "/", OWN} & set(parts)


def _repaired_rows_of(path):
    """The lines of a file; the end of one that a kill has torn is taken away."""
    rows, torn, length = _rows_of(path)
    if torn:
        os.truncate(path, length)
    return rows


def _rows_of(path):
    """The whole lines of a file, whether more follows them, and how many bytes they are."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return [], False, 0
    length = content.rfind(b"\n") + 1
    try:
        rows = [json.loads(line) for line in content[:length].splitlines()]
    except (ValueError, RecursionError):
        rows = [None]
    if not all(isinstance(row, dict) for row in rows):
        raise RetrainError(f"{path} is damaged, or was not written by retrain crawl.", "Name another folder.")
    return rows, length < len(content), length


def _append(path, row):
    with open(path, "ab") as file:
        file.write(json.dumps(row).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def _sync(path):
    with open(path, "rb") as file:
        os.fsync(file.fileno())

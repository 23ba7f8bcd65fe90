"""Where pictures may come from: one file a source, with one function `search(client, query, licence)`.

It yields Candidates and asks for a page only when the last one is used up.  It asks for those that the licence allows,
where the source can tell; whoever takes them looks at each one's licence again.  To add a source: its file, and its
line in SOURCES.
"""

import hashlib
import importlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.util import find_spec
from itertools import islice
from typing import NamedTuple

from platformdirs import user_config_path

from retrain.errors import RetrainError
from retrain.fetch import REASONS, FetchError
from retrain.sources.licences import ANY, Licence

MINUTE_S, HOUR_S, DAY_S = 60, 3600, 86_400


@dataclass(frozen=True)
class Candidate:
    """A picture that a source offers.  None: the source does not say."""

    source: str
    id: str  # unique within the source
    image_url: str
    landing_url: str | None = None
    creator: str | None = None
    creator_url: str | None = None
    licence: Licence | None = None  # None: unknown, not to be redistributed
    licence_text: str | None = None  # in the source's own words
    attribution: str | None = None
    width: int | None = None  # px, of the original
    height: int | None = None

    def __post_init__(self):
        texts = (self.landing_url, self.creator, self.creator_url, self.licence_text, self.attribution)
        if not (self.id and isinstance(self.image_url, str) and all(isinstance(text, str | None) for text in texts)):
            raise ValueError("no text where there should be one")
        if not all(isinstance(size, int | None) for size in (self.width, self.height)):
            raise ValueError("no number where there should be one")


class Source(NamedTuple):
    """A source.  rates, and rates_with_key where a key changes them: (number, seconds) pairs; it allows no more."""

    what: str
    base_url: str
    rates: tuple[tuple[int, float], ...] = ()
    rates_with_key: tuple[tuple[int, float], ...] = ()
    needs_key: bool = False
    is_engine: bool = False  # knows neither author nor licence


# In the order of their asking.
SOURCES = {
    "openverse": Source(
        "openly licensed pictures of some fifty collections", "https://api.openverse.org/v1/",
        ((20, MINUTE_S), (200, DAY_S)), ((100, MINUTE_S), (10_000, DAY_S)),
    ),
    "wikimedia": Source(
        "Wikimedia Commons; a query that begins with Category: names one", "https://commons.wikimedia.org/w/api.php",
        ((150, MINUTE_S),),
    ),
    "inaturalist": Source(
        "animals, plants and fungi, by their English or Latin names", "https://api.inaturalist.org/v1/",
        ((60, MINUTE_S), (9500, DAY_S)),
    ),
    "flickr": Source(
        "Flickr, with a key of yours", "https://api.flickr.com/services/rest/", ((3500, HOUR_S),), needs_key=True
    ),
    "urls": Source("a text file of addresses, which the query names", ""),
    # Nobody says what these allow: no more than somebody who reads their pages would ask for.
    "google": Source(
        "Google's pictures", "https://www.google.com/search", ((6, MINUTE_S), (200, DAY_S)), is_engine=True
    ),
    "bing": Source(
        "Bing's pictures", "https://www.bing.com/images/async", ((6, MINUTE_S), (200, DAY_S)), is_engine=True
    ),
}  # fmt: skip


def load_search(name):
    """The function search(client, query, licence) of a source."""
    return importlib.import_module(f"retrain.sources.{name}").search


def search(name, client, query, licence, limit=None) -> Iterator[Candidate]:
    """What a source offers, each picture once, at most `limit`.  Raises FetchError, RetrainError.

    The host is asked no more often than it allows, and may lie anywhere where the user has named it.
    """
    source, base = SOURCES[name], base_url(name)
    if base:
        rates = source.rates_with_key if source.rates_with_key and key(name) else source.rates
        client.limit(base, rates or client.options.rates)
    if base != source.base_url:
        client.allow(base)
    return islice(_each_once(_well_formed(load_search(name)(client, query, licence), base)), limit)


def _each_once(candidates):
    seen = set()
    for candidate in candidates:
        if candidate.id not in seen:
            seen.add(candidate.id)
            yield candidate


def _well_formed(candidates, base):
    try:
        yield from candidates
    except (LookupError, TypeError, AttributeError, ValueError) as error:  # an answer of another form than agreed
        raise FetchError("malformed", base, f"{REASONS['malformed']} ({type(error).__name__})") from error


def require_sources(names, licence):
    """Raise RetrainError unless all are names of sources, and all is there that these need."""
    if not names:
        raise RetrainError("no source is named.", f"There is: {', '.join(SOURCES)}.")
    for name in names:
        if name not in SOURCES:
            near = get_close_matches(name, SOURCES)
            raise RetrainError(f"there is no source {name!r}.", f"There is: {', '.join(near or SOURCES)}.")
        if SOURCES[name].needs_key and not key(name):
            hint = f"Put it into the variable {_variable(name, 'KEY')}, or as a line {name}=KEY into {_key_file()}."
            raise RetrainError(f"{name} wants a key of yours.", hint)
        if SOURCES[name].is_engine and licence != ANY:
            hint = "Add --license any, for pictures that may not be handed on; other sources tell licences."
            raise RetrainError(f"{name} tells no licences.", hint)
        if SOURCES[name].is_engine and not find_spec("icrawler"):
            hint = "make setup-full, or pip install icrawler beautifulsoup4; the image retrain:full holds it."
            raise RetrainError(f"{name} needs icrawler, which is not installed.", hint)


def base_url(name):
    """Where a source is asked: RETRAIN_OPENVERSE_URL and the like name a mirror, which may lie anywhere."""
    return os.environ.get(_variable(name, "URL")) or SOURCES[name].base_url


def key(name):
    """The user's key of a source, from the environment or from a file that nobody else may read; None without one."""
    if found := os.environ.get(_variable(name, "KEY")):
        return found
    path = _key_file()
    try:
        with open(path, encoding="utf-8") as file:
            if os.name == "posix" and os.fstat(file.fileno()).st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise RetrainError(f"others may read the keys in {path}.", f"chmod 600 {path}")
            rows = dict(line.strip().split("=", 1) for line in file if "=" in line)
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        raise RetrainError(f"{path} cannot be read.", "Write a line NAME=KEY into it for each source.") from None
    return rows.get(name)


def id_of(url):
    """An id for what has none but its address."""
    return hashlib.sha256(url.encode(errors="surrogateescape")).hexdigest()[:16]


def _variable(name, what):
    return f"RETRAIN_{name.upper()}_{what}"


def _key_file():
    return user_config_path("retrain", appauthor=False) / "keys"

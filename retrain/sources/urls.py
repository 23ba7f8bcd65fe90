"""A text file of addresses, one a line.

Behind an address may stand, parted by tabs, its licence (a code or an address), its author and its landing page.
Addresses without a host are taken from RETRAIN_URLS_URL.  Lines that begin with # say nothing.
"""

from pathlib import Path
from urllib.parse import urljoin

from retrain.errors import RetrainError
from retrain.sources import Candidate, base_url, id_of
from retrain.sources.licences import parse_licence


def search(client, query, licence):
    """query: the file, or its name without .txt."""
    for line in _lines(query):
        url, text, creator, landing, *_ = [*map(str.strip, line.split("\t")), "", "", ""]
        url = urljoin(base_url("urls"), url)
        yield Candidate(
            source="urls",
            id=id_of(url),
            image_url=url,
            landing_url=landing or None,
            creator=creator or None,
            licence=parse_licence(text),
            licence_text=text or None,
        )


def _lines(query):
    path = next((path for path in (Path(query), Path(f"{query}.txt")) if path.is_file()), None)
    if path is None:
        raise RetrainError(f"there is no file {query} or {query}.txt.", "Name a text file with an address a line.")
    try:
        lines = path.read_text("utf-8-sig", errors="surrogateescape").splitlines()
    except OSError as error:
        raise RetrainError(f"{path} cannot be read: {error.strerror}.", "Name another file.") from error
    return [line for line in lines if line.strip() and not line.startswith("#")]

"""Openverse: 240 pictures a query; with a key of the user's, in fewer and larger pages.

The key is `client_id:client_secret`, which Openverse gives to whoever registers.  It is exchanged for a token that
holds for some hours and is kept in memory alone.
"""

import time

from retrain.errors import RetrainError
from retrain.fetch import FetchError
from retrain.sources import Candidate, base_url, key
from retrain.sources.licences import ANY, COMMERCIAL, SAFE, parse_licence

SERVED = 240  # results a query
PAGE_SIZE = 20
PAGE_SIZE_WITH_KEY = 48  # 50 are allowed, but 240 are no multiple of that
QUERY_LETTERS = 200
EARLY_S = 60  # before its time, a token counts as over
LICENCE_TYPES = {SAFE: "commercial,modification", COMMERCIAL: "commercial", ANY: "all"}
# A query of all shapes first; where it ends at the 240th, each shape has 240 of its own.
SHAPES = None, "square", "wide", "tall"

_tokens: dict[tuple[str, str], tuple[str, float]] = {}  # of an address and a key: the token, and until when it holds


def search(client, query, licence):
    for shape in SHAPES:
        count = 0
        for row in _rows(client, query, licence, shape):
            count += 1
            yield _candidate(row)
        if shape is None and count < SERVED:
            return  # these were all


def _rows(client, query, licence, shape):
    size = PAGE_SIZE_WITH_KEY if key("openverse") else PAGE_SIZE
    asked = {"q": query[:QUERY_LETTERS], "license_type": LICENCE_TYPES[licence], "page_size": size}
    if shape:
        asked["aspect_ratio"] = shape
    for page in range(1, SERVED // size + 1):
        answer = _ask(client, asked | {"page": page}).json()
        yield from answer["results"]
        if page >= answer["page_count"]:
            return


def _ask(client, asked):
    url, secret = f"{_base()}/images/", key("openverse")
    for _ in range(2):
        headers = {"Authorization": f"Bearer {_token(client, secret)}"} if secret else {}
        try:
            return client.get(url, asked, headers)
        except FetchError as error:
            if not (secret and _is_bad_token(error)):
                raise
            del _tokens[_base(), secret]  # over before its time
    raise _refused(url)


def _token(client, secret):
    """A token that holds, from memory or in exchange for the key.  Raises FetchError, RetrainError."""
    token, until = _tokens.get((_base(), secret), ("", 0.0))
    if time.monotonic() < until - EARLY_S:
        return token
    id, colon, password = secret.partition(":")
    if not (id and colon and password):
        hint = "RETRAIN_OPENVERSE_KEY=ID:SECRET; without a key, fewer requests are allowed."
        raise RetrainError("the key of openverse is not of the form ID:SECRET.", hint)
    url, form = f"{_base()}/auth_tokens/token/", {"grant_type": "client_credentials"}
    try:
        answer = client.post(url, form | {"client_id": id, "client_secret": password}).json()
    except FetchError as error:
        raise _refused(url) if error.reply and error.reply.status in (400, 401, 403) else error from None
    token = answer["access_token"]
    _tokens[_base(), secret] = token, time.monotonic() + answer["expires_in"]
    return token


def _is_bad_token(error):
    """Whether it is the token that is refused, and not the size or the number of a page."""
    reply = error.reply
    return reply is not None and reply.status == 401 and "invalid_token" in reply.headers.get("www-authenticate", "")


def _refused(url):
    return FetchError("refused_key", url, "Openverse does not take your key (RETRAIN_OPENVERSE_KEY, or the keys file)")


def _base():
    return base_url("openverse").rstrip("/")


def _candidate(row):
    code = row.get("license") and f"{row['license']} {row.get('license_version') or ''}".strip()
    return Candidate(
        source="openverse",
        id=row["id"],
        image_url=row["url"],
        landing_url=row.get("foreign_landing_url"),
        creator=row.get("creator"),
        creator_url=row.get("creator_url"),
        licence=parse_licence(code, row.get("license_url")),
        licence_text=code,
        attribution=row.get("attribution"),
        width=row.get("width"),
        height=row.get("height"),
    )

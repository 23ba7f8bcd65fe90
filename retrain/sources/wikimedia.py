"""Wikimedia Commons: a search, or all pictures of a category, which are the cleanest classes."""

import html
import re

from retrain.fetch import ANONYMOUS, FetchError, contact
from retrain.sources import Candidate, base_url
from retrain.sources.licences import parse_licence

PAGE_SIZE = 50
WIDTH = 500  # px of the thumbnail; one of the steps at which Commons hands them out
LATER = {"maxlag", "ratelimited", "readonly"}  # errors that pass; they come with status 200
FORMATS = {"image/jpeg", "image/png", "image/webp", "image/tiff", "image/gif"}
ASKED = {
    "action": "query",
    "format": "json",
    "formatversion": 2,
    "maxlag": 5,
    "prop": "imageinfo",
    "iiprop": "url|size|mime|mediatype|user|extmetadata",
    "iiurlwidth": WIDTH,
    "iiextmetadatafilter": "Artist|Attribution|License|LicenseShortName|LicenseUrl|UsageTerms",
}


def search(client, query, licence):
    for page in _pages(client, query):
        # Where an answer leaves something out, the next one brings the page again.
        if page.get("imageinfo") and page["imageinfo"][0].get("mime") in FORMATS:
            yield _candidate(page, page["imageinfo"][0])


def _pages(client, query):
    if not contact():  # https://foundation.wikimedia.org/wiki/Policy:User-Agent_policy
        raise FetchError(ANONYMOUS, base_url("wikimedia"))
    if query.lower().startswith("category:"):
        asked = {"generator": "categorymembers", "gcmtitle": query, "gcmtype": "file", "gcmlimit": PAGE_SIZE}
    else:
        asked = {"generator": "search", "gsrsearch": f"filetype:bitmap {query}", "gsrnamespace": 6}
        asked |= {"gsrlimit": PAGE_SIZE}
    on: dict = {}
    while True:
        reply = client.get(base_url("wikimedia"), ASKED | asked | on, is_busy=_is_busy)
        answer = reply.json()
        if error := answer.get("error"):
            raise FetchError("status", reply.url, f"Commons says {error.get('code')}: {error.get('info')}", reply)
        pages = answer.get("query", {}).get("pages", [])
        yield from sorted(pages, key=lambda page: page.get("index", 0))
        if not answer.get("continue") or answer["continue"] == on:
            return
        on = answer["continue"]


def _is_busy(reply):
    return reply.json().get("error", {}).get("code") in LATER


def _candidate(page, info):
    said = {name: _text(value.get("value")) for name, value in (info.get("extmetadata") or {}).items()}
    return Candidate(
        source="wikimedia",
        id=str(page["pageid"]),
        image_url=info.get("thumburl") or info["url"],
        landing_url=info.get("descriptionurl"),
        creator=said.get("Artist") or info.get("user"),
        licence=parse_licence(said.get("License"), said.get("LicenseUrl")),
        licence_text=said.get("LicenseShortName") or said.get("UsageTerms"),
        attribution=said.get("Attribution"),
        width=info.get("width"),
        height=info.get("height"),
    )


def _text(value):
    """What HTML says, on one line; None where it says nothing."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", str(value or ""))).split()) or None

"""Flickr, with the user's key."""

from retrain.fetch import FetchError
from retrain.sources import Candidate, base_url, key
from retrain.sources.licences import ANY, allows, parse_licence

PAGE_SIZE = 500
SERVED = 4000  # results; beyond them pages repeat
LATER = {10, 105}  # errors that pass; they come with status 200
SIZES = "url_c", "url_l", "url_m"  # 800, 1024, 500 px
ASKED = {
    "method": "flickr.photos.search",
    "media": "photos",
    "content_type": 1,
    "safe_search": 1,
    "sort": "relevance",
    "extras": f"license,owner_name,o_dims,{','.join(SIZES)}",
    "per_page": PAGE_SIZE,
}


def search(client, query, licence):
    licences = _licences(client)
    wanted = [number for number, (_, found) in licences.items() if allows(found, licence)]
    if not wanted:
        return
    for photo in _photos(client, query, [] if licence == ANY else wanted):
        url = next((photo[size] for size in SIZES if photo.get(size)), None)
        if url:
            yield _candidate(photo, url, *licences.get(str(photo["license"]), (None, None)))


def _licences(client):
    """{number: (its name, Licence or None)}, as Flickr numbers them today: uploads since 2025 have new ones."""
    answer = _ask(client, {"method": "flickr.photos.licenses.getInfo"})
    rows = answer["licenses"]["license"]
    return {str(row["id"]): (row.get("name"), parse_licence(row.get("url"))) for row in rows}


def _photos(client, query, licences):
    """Each photo once."""
    asked, seen = ASKED | {"text": query}, set[str]()
    if licences:
        asked["license"] = ",".join(licences)
    for page in range(1, SERVED // PAGE_SIZE + 1):
        answer = _ask(client, asked | {"page": page})["photos"]
        new = [photo for photo in answer["photo"] if photo["id"] not in seen]
        seen |= {photo["id"] for photo in new}
        yield from new
        if not new or page >= int(answer["pages"]):
            return


def _ask(client, asked):
    secret = key("flickr")
    asked |= {"api_key": secret, "format": "json", "nojsoncallback": 1}
    reply = client.get(base_url("flickr"), asked, is_busy=_is_busy)
    answer = reply.json()
    if answer.get("stat") != "ok":
        message = str(answer.get("message")).replace(secret, "…")
        raise FetchError("status", reply.url, f"Flickr says {answer.get('code')}: {message}", reply)
    return answer


def _is_busy(reply):
    return reply.json().get("code") in LATER


def _candidate(photo, url, text, licence):
    owner = f"https://www.flickr.com/photos/{photo['owner']}"
    return Candidate(
        source="flickr",
        id=photo["id"],
        image_url=url,
        landing_url=f"{owner}/{photo['id']}",
        creator=photo.get("ownername"),
        creator_url=owner,
        licence=licence,
        licence_text=text,
        width=int(photo.get("o_width") or 0) or None,
        height=int(photo.get("o_height") or 0) or None,
    )

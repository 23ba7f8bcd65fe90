"""iNaturalist: observations of wild living things whose species others have confirmed."""

from retrain.sources import Candidate, base_url
from retrain.sources.licences import ALLOWED, ANY, parse_licence

PAGE_SIZE = 200
SIZE = "medium"  # 500 px; media are limited to 5 GB an hour
ASKED = {
    "photos": "true",
    "quality_grade": "research",
    "captive": "false",
    "per_page": PAGE_SIZE,
    "order_by": "id",
    "order": "asc",
}


def search(client, query, licence):
    for observation in _observations(client, query, licence):
        # Each photo has a licence of its own; null reserves all rights.
        for photo in observation["photos"]:
            yield _candidate(observation, photo)


def _observations(client, query, licence):
    asked = ASKED | {"taxon_name": query}
    if licence != ANY:
        asked["photo_license"] = ",".join(id if id == "cc0" else f"cc-{id}" for id in ALLOWED[licence] if id != "pdm")
    last = 0
    while True:
        url = f"{base_url('inaturalist').rstrip('/')}/observations"
        observations = client.get(url, asked | {"id_above": last}).json()["results"]
        yield from observations
        before, last = last, max((observation["id"] for observation in observations), default=last)
        if last <= before:
            return


def _candidate(observation, photo):
    size, user = photo.get("original_dimensions") or {}, observation.get("user") or {}
    return Candidate(
        source="inaturalist",
        # Photos of one observation show one plant or animal: `--group-by '(inaturalist-\d+)'` keeps them together.
        id=f"{observation['id']}-{photo['id']}",
        image_url=photo["url"].replace("/square.", f"/{SIZE}."),
        landing_url=observation.get("uri"),
        creator=user.get("name") or user.get("login"),
        creator_url=user.get("login") and f"https://www.inaturalist.org/people/{user['login']}",
        licence=parse_licence(photo.get("license_code")),
        licence_text=photo.get("license_code"),
        attribution=photo.get("attribution"),
        width=size.get("width"),
        height=size.get("height"),
    )

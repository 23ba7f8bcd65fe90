"""Openverse, without a token: 20 pictures a page, 240 a query."""

from retrain.sources import Candidate, base_url
from retrain.sources.licences import ANY, COMMERCIAL, SAFE, parse_licence

PAGE_SIZE = 20
PAGES = 240 // PAGE_SIZE
QUERY_LETTERS = 200
LICENCE_TYPES = {SAFE: "commercial,modification", COMMERCIAL: "commercial", ANY: "all"}
# A query of all shapes first; where it ends at the 240th, each shape has 240 of its own.
SHAPES = None, "square", "wide", "tall"


def search(client, query, licence):
    for shape in SHAPES:
        count = 0
        for row in _rows(client, query, licence, shape):
            count += 1
            yield _candidate(row)
        if shape is None and count < PAGES * PAGE_SIZE:
            return  # these were all


def _rows(client, query, licence, shape):
    asked = {"q": query[:QUERY_LETTERS], "license_type": LICENCE_TYPES[licence], "page_size": PAGE_SIZE}
    if shape:
        asked["aspect_ratio"] = shape
    for page in range(1, PAGES + 1):
        answer = client.get(f"{base_url('openverse').rstrip('/')}/images/", asked | {"page": page}).json()
        yield from answer["results"]
        if page >= answer["page_count"]:
            return


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

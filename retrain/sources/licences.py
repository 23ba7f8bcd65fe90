"""Which licences allow what.  What cannot be read for certain is no licence."""

import re
from dataclasses import dataclass

SAFE, COMMERCIAL, ANY = "safe", "commercial", "any"
# Licences by what they allow.  "any" allows all, and what has none.
ALLOWED = {
    SAFE: ("cc0", "pdm", "by", "by-sa"),
    COMMERCIAL: ("cc0", "pdm", "by", "by-sa", "by-nd"),
}
WANTED = {
    SAFE: "may be reused and changed, also commercially",
    COMMERCIAL: "may be reused commercially, perhaps not changed",
    ANY: "anything, also without a licence; not for redistribution",
}
IDS = "cc0", "pdm", "by", "by-sa", "by-nd", "by-nc", "by-nc-sa", "by-nc-nd"

ADDRESS = re.compile(
    r"https?://(?:www\.)?creativecommons\.org/(?:licenses/(?P<id>[a-z-]+)|publicdomain/(?P<public>zero|mark))"
    r"/(?P<version>\d\.\d)(?:/[a-z]{2,3})?(?:/(?:deed|legalcode)(?:\.[a-z_-]+)?)?/?"
)
# "CC BY-SA 4.0", "cc-by-sa-3.0-de", "cc-by-sa-4.0,3.0", "by-sa"
CODE = re.compile(r"(?:cc[ -])?(?P<id>by(?:-[a-z]{2})*)(?:[ -](?P<version>\d\.\d)(?:,\d\.\d)*(?:[ -][a-z]{2,3})?)?")
ZERO = re.compile(r"(?:cc[ -]?)?(?:0|zero)(?:[ -](?P<version>1\.0))?")
MARK = re.compile(r"pdm(?:[ -](?P<version>1\.0))?|pd|public domain|public domain mark(?: 1\.0)?")


@dataclass(frozen=True)
class Licence:
    """A Creative Commons licence, or what is free of rights.  id: one of IDS."""

    id: str
    version: str | None = None

    @property
    def url(self):
        if self.id in ("cc0", "pdm"):
            return f"https://creativecommons.org/publicdomain/{'zero' if self.id == 'cc0' else 'mark'}/1.0/"
        return self.version and f"https://creativecommons.org/licenses/{self.id}/{self.version}/"

    @property
    def name(self):
        """As people write it: `CC BY-SA 4.0`."""
        free = {"cc0": "CC0 1.0", "pdm": "Public Domain Mark 1.0"}
        return free.get(self.id) or " ".join(filter(None, ["CC", self.id.upper(), self.version]))


def parse_licence(*texts):
    """The Licence that codes, names and addresses of one agree on; None where one of them is unknown or says otherwise.

    Those that are None or empty say nothing.
    """
    found = [_parse(text) for text in texts if text]
    if not found or None in found or len({licence.id for licence in found}) > 1:
        return None
    versions = {licence.version for licence in found} - {None}
    return Licence(found[0].id, max(versions, default=None))


def allows(licence, wanted):
    """Whether a Licence, or None, is among the wanted: a key of WANTED."""
    return wanted == ANY or (licence is not None and licence.id in ALLOWED[wanted])


def _parse(text):
    text = " ".join(text.strip().lower().split())
    if match := ADDRESS.fullmatch(text):
        if match["public"]:
            return Licence("cc0" if match["public"] == "zero" else "pdm", "1.0")
        return _of_parts(match["id"], match["version"])
    if ZERO.fullmatch(text):
        return Licence("cc0", "1.0")
    if MARK.fullmatch(text):
        return Licence("pdm", "1.0")
    match = CODE.fullmatch(text)
    return match and _of_parts(match["id"], match["version"])


def _of_parts(text, version):
    """Their order has changed over the years: version 1.0 had by-nd-nc."""
    parts = set(text.split("-"))
    return next((Licence(id, version) for id in IDS if set(id.split("-")) == parts), None)

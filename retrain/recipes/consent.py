"""Consent: pictures do not show who agreed to have his face learned; of crawled ones, nobody did."""

import os
from pathlib import Path

from retrain.dataset import CRAWL_MANIFEST
from retrain.errors import RetrainError
from retrain.scale.places import require_local

NOTICE = (
    "Faces are learned: data by which people are told are specially protected (GDPR art. 9; docs/faces.md). Have the "
    "consent of everybody on these pictures. retrain faces --forget LABEL deletes what is kept of somebody."
)


def require_consent(paths, consented, engine="local"):
    """Raise RetrainError where paths lie in, hold or lead to pictures of a crawl, unless there is consent.

    Nor may faces go to another machine: what is kept of them there nobody could forget.
    """
    if engine != "local":
        raise RetrainError("faces are looked at on this machine alone, not on a cluster.", "Leave --engine out.")
    require_local(*paths)
    for path in () if consented else paths:
        crawled = _find_crawl(Path(path))
        if crawled:
            raise RetrainError(
                f"{crawled} holds pictures that were crawled: a licence is not the consent of whoever is on them.",
                "Use your own pictures, of people who agreed. --i-have-consent says that these people did, too.",
            )


def _find_crawl(path):
    """Folder of a crawl that a path lies in, holds, or leads to by a link; None without any."""
    found = _above(path)
    for folder, names, files in os.walk(path):
        if found:
            return found
        if CRAWL_MANIFEST in files:
            return Path(folder)
        links = [Path(folder, name) for name in names + files if os.path.islink(Path(folder, name))]  # noqa: PTH114
        found = next(filter(None, map(_above, links)), None)
    return found


def _above(path):
    real = Path(os.path.realpath(path))
    return next((folder for folder in [real, *real.parents] if (folder / CRAWL_MANIFEST).is_file()), None)

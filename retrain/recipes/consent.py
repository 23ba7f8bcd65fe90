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
    """Folder of a crawl that a path lies in, holds, or leads to by links; None without any."""
    waiting, seen = [path], set[str]()
    while waiting:
        real = os.path.realpath(waiting.pop())
        if real in seen:
            continue
        seen.add(real)
        if found := _above(Path(real)):
            return found
        for folder, names, files in os.walk(real):
            if CRAWL_MANIFEST in files:
                return Path(folder)
            paths = [Path(folder, name) for name in names + files]
            waiting += [each for each in paths if os.path.islink(each)]  # noqa: PTH114
    return None


def _above(real):
    return next((folder for folder in [real, *real.parents] if (folder / CRAWL_MANIFEST).is_file()), None)

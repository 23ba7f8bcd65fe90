"""The page that shows the suspects of `clean`."""

import os

from retrain.parallel import ordered_map
from retrain.report.page import name_of, render, write_page
from retrain.report.pictures import thumbnail_of

GENERATOR = "retrain clean"
SUSPECTS_SHOWN = 100  # a check
PICTURES_SHOWN = 6  # a suspect


def write_suspects(plan, data, path):
    """Write a page that shows the pictures of a plan of `clean`, worst first, with their reasons.

    data: the folder that names are shown relative to.  Overwrites nothing but such a page.  Raises RetrainError.
    """
    shown = {
        check: [finding for finding in plan["findings"] if finding["check"] == check][:SUSPECTS_SHOWN]
        for check, count in plan["counts"].items()
        if count
    }
    paths = [name for findings in shown.values() for finding in findings for name in finding["paths"][:PICTURES_SHOWN]]
    pictures = dict(zip(paths, ordered_map(thumbnail_of, paths), strict=True))

    page = render(
        "suspects.html.j2", data=name_of(data), counts=plan["counts"], shown=shown,
        pictures=pictures, name_of=lambda path: name_of(os.path.relpath(path, data)), most=PICTURES_SHOWN,
    )  # fmt: skip
    write_page(page, path, GENERATOR)

"""The page of `learn`: what was recognised in a folder, and by what."""

from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from retrain.parallel import ordered_map
from retrain.report.page import name_of, render, style, write_page
from retrain.report.pictures import thumbnail_of

GENERATOR = "retrain learn"
SHOWN = 60  # pictures of each group, the surest first


class Group(NamedTuple):
    """Pictures on the page, and how many there are."""

    rows: list
    total: int


def write_learned(result, rows, threshold, path):
    """Write the page of `learn`.  rows: as `Results.fill` yields them.  Raises RetrainError."""
    read = sorted((row for row in rows if not row["error"]), key=lambda row: -row["confidence"])
    wrong = [row for row in read if row["covered"] and row["truth"] not in (None, row["label"])]
    right = [row for row in read if row["covered"] and row["truth"] in (None, row["label"])]
    of_label = {label: [row for row in right if row["label"] == label] for label in result["classes"]}
    sheet, policy = style("report.css")
    page = render(
        "learned.html.j2",
        generator=GENERATOR, sheet=sheet, policy=policy, result=result, threshold=threshold, name_of=name_of,
        mistaken=_group(wrong, path.parent),
        groups={label: _group(found, path.parent) for label, found in of_label.items()},
        missed=_group([row for row in read if not row["covered"]], path.parent),
    )  # fmt: skip
    write_page(page, path, GENERATOR)


def _group(rows, folder):
    shown = rows[:SHOWN]
    files = [folder / row["heatmap"] if row["covered"] else Path(row["path"]) for row in shown]
    return Group([_shown(*pair) for pair in zip(shown, ordered_map(thumbnail_of, files), strict=True)], len(rows))


def _shown(row, picture):
    link = row["heatmap"] and quote(row["heatmap"].encode("utf-8", "surrogateescape"))
    return row | {"name": name_of(Path(row["path"]).name), "picture": picture, "link": link}

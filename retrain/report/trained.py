"""The page about a trained model: how good it is, what it mistakes, what would help, and how to run it."""

import shlex
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path

import numpy as np

from retrain.calibrate import pictures_needed
from retrain.explain import heat, needs_tensorflow, overlay
from retrain.images import ImageError, decode, read
from retrain.metrics import Judged, confusion_matrix, per_class_scores
from retrain.options import default_model_dir
from retrain.parallel import ordered_map
from retrain.report.advice import advise
from retrain.report.charts import fine_tuning_charts, learning_chart, reliability_chart, risk_chart
from retrain.report.page import name_of, render, style, write_page
from retrain.report.pictures import embed, shrink
from retrain.shortcut import take_apart

GENERATOR = "retrain report"
MATRIX_CLASSES = 40  # above this nobody reads a matrix: the pairs confused most instead
PAIRS = 30
CLASSES_LISTED = 200
GAINS_LISTED = 8
SHADES = {False: (0.05, 0.1, 0.25), True: (0.5, 0.75, 0.9)}  # shares of a row from which a field is darker
PICTURES = 400  # on the page: with the names below it stays far under 20 MB
CELL_PICTURES = {False: 12, True: 6}  # mistakes a cell, the surest; right guesses a class, the least sure
WORST = 12  # mistakes with heat maps
REASONS = 20
NAMED = 20  # skipped files a reason
COVERAGES = 1.0, 0.95, 0.9, 0.8, 0.5  # rows of the risk-coverage table


@dataclass(frozen=True)
class Evidence:
    """What a page shows beside the model itself.

    judged: pictures that the judging model had not learned; the headline is of those kept back, if there are any.
    measures: `summarize` of the headline's pictures.  skipped: {path, reason} of files without a picture.
    learning_curve, shortcut: of `learning_curve` and `check_shortcut`, whose examples are positions in `judged`.
    model_dir: for the commands shown; None: the default.  reliability_before: `reliability` at temperature 1.
    fine_tuning: what `train` tells of it.
    data: the folder measured, where it is another than the one learned; unknown: then what the model's info says of it.
    """

    judged: Judged
    measures: dict
    skipped: Sequence[dict] = ()
    learning_curve: dict | None = None
    shortcut: dict | None = None
    model_dir: str | Path | None = None
    reliability_before: list | None = None
    data: str | Path | None = None
    unknown: dict | None = None
    fine_tuning: dict | None = None


@dataclass(frozen=True)
class Shown:
    """A judged picture on the page.  The pictures are data URLs, None where the file is gone or nobody asked."""

    name: str
    truth: str
    guess: str
    confidence: float
    thumbnail: str | None
    heat: str | None = None
    masked: tuple[str, ...] = ()  # without the object, without the background


@dataclass(frozen=True)
class Cell:
    """A field of the confusion matrix.  shade: 1-4, by its share of the row."""

    truth: int
    guess: int
    count: int
    shade: int

    @property
    def place(self):
        return self.truth, self.guess

    @property
    def id(self):
        return f"cell-{self.truth}-{self.guess}"


def render_report(model, evidence):
    """HTML of a model's page, which needs no other file and asks the network for nothing."""
    judged, measures, classes = evidence.judged, evidence.measures, model.classes
    guesses = judged.probabilities.argmax(axis=1)
    confidences = judged.probabilities.max(axis=1, initial=0.0)
    matrix = confusion_matrix(judged.truth, guesses, len(classes))
    scores = per_class_scores(matrix, classes)
    counts = {name: row["support"] for name, row in scores.items()} if evidence.data else model.info["counts"]
    cells = _cells(matrix)
    pairs = sorted((cell for cell in cells if cell.truth != cell.guess), key=lambda cell: -cell.count)[:PAIRS]
    grid = _grid(cells, len(classes)) if len(classes) <= MATRIX_CLASSES else None
    rows_of = _choose(judged.truth, guesses, confidences, {cell.place for cell in (cells if grid else pairs)})
    order = np.argsort(-confidences, kind="stable")
    worst = order[guesses[order] != judged.truth[order]][:WORST].tolist()
    flagged = evidence.shortcut if evidence.shortcut and evidence.shortcut["flagged"] else None
    examples = flagged["examples"] if flagged else []
    sheet, policy = style("report.css")
    return render(
        "report.html.j2",
        generator=GENERATOR, sheet=sheet, policy=policy,
        model=model, info=model.info, evidence=evidence, measures=measures,
        data=None if evidence.data is None else name_of(evidence.data),
        pictures_needed=pictures_needed, unknown=evidence.unknown if evidence.data else model.info.get("unknown"),
        tested=int(judged.tested.sum()), judged=len(guesses),
        advice=advise(classes, counts, matrix, evidence.learning_curve, evidence.shortcut),
        grid=grid, pairs=pairs, cells=[cell for cell in cells if cell.place in rows_of], rows_of=rows_of,
        shown=_show(model, judged, {row for rows in rows_of.values() for row in rows}, worst, examples),
        worst=worst, flagged=flagged, examples=examples,
        reliability=reliability_chart(measures["reliability"], evidence.reliability_before),
        risk=risk_chart(measures["risk_coverage"]),
        covered=_at(measures["risk_coverage"], COVERAGES),
        learning=learning_chart(evidence.learning_curve["points"]) if evidence.learning_curve else None,
        epochs=_epochs(evidence.fine_tuning),
        gains=_largest_gains(classes, evidence.learning_curve),
        scores=_listed(scores), counts=counts, most=max(counts.values()), total=sum(counts.values()),
        skipped=by_reason(evidence.skipped), named=NAMED,
        options=options_as_text(model.info["options"]), commands=commands_of(evidence.model_dir, model.of_faces),
    )  # fmt: skip


def write_report(model, evidence, path):
    """Write that page to a file.  Overwrites nothing but such a page.  Raises RetrainError."""
    write_page(render_report(model, evidence), path, GENERATOR)


def _epochs(tuned):
    """Charts of a fine-tuning that came far enough to draw a line; none otherwise."""
    history = tuned["history"] if tuned else []
    return fine_tuning_charts(history) if len(history) > 1 else []


def _choose(truth, guesses, confidences, places):
    """{(truth, guess): rows} of pictures to show in these places: the surest mistakes, the least sure right guesses."""
    hits = truth == guesses
    taken: Counter = Counter()
    claims = []
    for row in np.argsort(np.where(hits, confidences, -confidences), kind="stable").tolist():
        cell, hit = (int(truth[row]), int(guesses[row])), bool(hits[row])
        if cell in places and taken[cell] < CELL_PICTURES[hit]:
            claims.append((hit, taken[cell], row, cell))
            taken[cell] += 1
    chosen = defaultdict(list)
    for _, _, row, cell in sorted(claims)[:PICTURES]:  # mistakes first, and the first of each cell before any second
        chosen[cell].append(row)
    return dict(chosen)


def _cells(matrix):
    """The fields of a confusion matrix that hold anything, row by row."""
    totals, cells = matrix.sum(axis=1), []
    for truth, guess in np.argwhere(matrix).tolist():
        count = int(matrix[truth, guess])
        shade = 1 + int(np.searchsorted(SHADES[truth == guess], count / totals[truth], side="right"))
        cells.append(Cell(truth, guess, count, shade))
    return cells


def _grid(cells, classes):
    grid = [[None] * classes for _ in range(classes)]
    for cell in cells:
        grid[cell.truth][cell.guess] = cell
    return grid


def _show(model, judged, rows, worst, examples):
    """{row: Shown}, each picture decoded once, several at a time."""
    guesses = judged.probabilities.argmax(axis=1)
    explained = () if worst and needs_tensorflow(model) else worst  # a report waits for no TensorFlow

    def show(row):
        truth, guess = int(judged.truth[row]), int(guesses[row])
        thumbnail, heat_map, masked = None, None, ()
        with suppress(ImageError):  # the file is gone
            image = model.view(decode(read(judged.paths[row])))
            small = shrink(image)
            thumbnail = embed(small)
            heat_map = embed(overlay(small, heat(model, image, guess))) if row in explained else None
            masked = tuple(embed(shrink(part)) for part in take_apart(model, image)) if row in examples else ()
        name, confidence = name_of(judged.paths[row].name), float(judged.probabilities[row, guess])
        return Shown(name, model.classes[truth], model.classes[guess], confidence, thumbnail, heat_map, masked)

    wanted = sorted({*rows, *worst, *examples})
    return dict(zip(wanted, ordered_map(show, wanted), strict=True))


def _largest_gains(classes, curve):
    """{class: what more pictures brought}, the largest first."""
    gains = [(name, gain) for name, gain in zip(classes, curve["gains"], strict=True) if gain] if curve else []
    return dict(sorted(gains, key=lambda item: -item[1]["gain"])[:GAINS_LISTED])


def _listed(scores):
    """Scores of the classes, of many those with the lowest recall."""
    if len(scores) <= CLASSES_LISTED:
        return scores
    judged = {name: row for name, row in scores.items() if row["support"]}
    return dict(sorted(judged.items(), key=lambda item: item[1]["recall"])[:CLASSES_LISTED])


def _at(curve, coverages):
    """Points of a risk-coverage curve: for each coverage the nearest that covers as much."""
    points = [
        min((point for point in curve if point["coverage"] >= wanted), key=itemgetter("coverage"), default=None)
        for wanted in coverages
    ]
    return [point for number, point in enumerate(points) if point and point not in points[:number]]


def by_reason(skipped):
    """{reason: its rows}, the most frequent first."""
    found = defaultdict(list)
    for row in skipped:
        found[row["reason"].partition(":")[0]].append(row)
    return dict(sorted(found.items(), key=lambda item: -len(item[1]))[:REASONS])


def options_as_text(options):
    """{option: its value as text}, without those that ask for nothing."""
    texts = {
        key: ",".join(map(str, value)) if isinstance(value, list | tuple) else value for key, value in options.items()
    }
    return {key: text for key, text in texts.items() if text not in ("", None)}


def commands_of(model_dir, faces=False):
    """What to type, and what it does."""
    elsewhere = model_dir is not None and Path(model_dir) != default_model_dir()
    model = f" --model-dir {shlex.quote(name_of(model_dir))}" if elsewhere else ""
    if faces:
        return {
            f"retrain guess --faces{model} picture.jpg": "says who is on pictures",
            f"retrain sort --faces{model} holiday sorted": "copies a folder's pictures, sorted by who is on them",
            f"retrain evaluate --faces{model} photos/test": "measures the model on pictures that it has not seen",
        }
    return {
        f"retrain guess{model} picture.jpg": "says what is on pictures",
        f"retrain explain{model} picture.jpg --out explained": "shows what on them speaks for it",
        f"retrain sort{model} holiday sorted": "copies a folder's pictures, sorted by what is on them",
        f"retrain evaluate{model} photos/test": "measures the model on pictures that it has not seen",
    }

"""The page about a model that tells several labels of a picture: how well it tells each, and its surest mistakes."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from retrain.explain import heat, needs_tensorflow, overlay
from retrain.images import ImageError, decode, read
from retrain.multilabel.metrics import JudgedLabels
from retrain.parallel import ordered_map
from retrain.report.page import name_of, render, style, write_page
from retrain.report.pictures import embed, shrink
from retrain.report.trained import CLASSES_LISTED, GENERATOR, NAMED, WORST, by_reason, commands_of, options_as_text


@dataclass(frozen=True)
class LabelEvidence:
    """What a page shows beside the model itself.

    judged: pictures that the judging model had not learned; the headline is of those kept back, if there are any.
    measures: `summarize` of the headline's pictures.  scores: of each label, of all judged, with its threshold.
    images: pictures of the data set.  skipped: {path, reason} of files without a picture.  model_dir: for the commands
    shown; None: the default.  data: the folder measured, where it is another than the one learned.
    unknown: what is told of `_unknown/`.  learned: judged pictures that the model knows from training.
    advice: sentences.
    """

    judged: JudgedLabels
    measures: dict
    scores: dict
    images: int
    skipped: Sequence[dict] = ()
    model_dir: str | Path | None = None
    data: str | Path | None = None
    unknown: dict | None = None
    learned: int = 0
    advice: Sequence[str] = ()


@dataclass(frozen=True)
class Mistake:
    """A label wrongly told or missed.  The pictures are data URLs, None where the file is gone or nobody can tell."""

    name: str
    label: str
    confidence: float
    truth: str
    thumbnail: str | None
    heat: str | None


def render_multilabel(model, evidence):
    """HTML of a model's page, which needs no other file and asks the network for nothing."""
    judged = evidence.judged
    sheet, policy = style("report.css")
    return render(
        "multilabel.html.j2",
        generator=GENERATOR, sheet=sheet, policy=policy, model=model, info=model.info, evidence=evidence,
        measures=evidence.measures, data=None if evidence.data is None else name_of(evidence.data),
        tested=int(judged.tested.sum()), judged=len(judged.truth), learned=evidence.learned, unknown=evidence.unknown,
        advice=evidence.advice, scores=_listed(evidence.scores),
        invented=_mistakes(model, judged, judged.told & ~judged.truth, -judged.probabilities),
        missed=_mistakes(model, judged, ~judged.told & judged.truth, judged.probabilities),
        total=evidence.images, skipped=by_reason(evidence.skipped), named=NAMED,
        options=options_as_text(model.info["options"]), commands=commands_of(evidence.model_dir),
    )  # fmt: skip


def write_multilabel(model, evidence, path):
    """Write that page to a file.  Overwrites nothing but such a page.  Raises RetrainError."""
    write_page(render_multilabel(model, evidence), path, GENERATOR)


def _mistakes(model, judged, wrong, order):
    """The worst of the labels that are wrong, bool (n, C), by rising order (n, C), with their heat maps."""
    places = np.argwhere(wrong)
    worst = places[np.argsort(order[wrong], kind="stable")][:WORST].tolist()
    explained = bool(worst) and not needs_tensorflow(model)  # a report waits for no TensorFlow

    def show(place):
        row, label = place
        thumbnail, heat_map = None, None
        with suppress(ImageError):  # the file is gone
            image = decode(read(judged.paths[row]))
            small = shrink(image)
            thumbnail = embed(small)
            heat_map = embed(overlay(small, heat(model, image, label))) if explained else None
        truth = ", ".join(model.classes[number] for number in np.flatnonzero(judged.truth[row]))
        name, confidence = name_of(judged.paths[row].name), float(judged.probabilities[row, label])
        return Mistake(name, model.classes[label], confidence, truth, thumbnail, heat_map)

    return list(ordered_map(show, worst))


def _listed(scores):
    """Scores of the labels, of many those with the lowest average precision."""
    if len(scores) <= CLASSES_LISTED:
        return scores
    judged = {name: row for name, row in scores.items() if row["support"]}
    return dict(sorted(judged.items(), key=lambda item: item[1]["average_precision"])[:CLASSES_LISTED])

"""Films: what is seen in them, from when to when, in memory that does not grow with their length."""

from dataclasses import dataclass, field

import numpy as np

from retrain.classifier import Guess
from retrain.images import ImageError
from retrain.options import FilmOptions
from retrain.parallel import ordered_map
from retrain.progress import track
from retrain.recipes.film_files import KINDS, FilmFiles, Seen, shrink
from retrain.segments import Moment, find_segments, smooth
from retrain.video import open_film

AHEAD = 2  # frames a thread: each takes some megabytes
SHORTEST_S = 0.5  # of a segment, where anything is smoothed


@dataclass
class FilmGuess(Guess):
    """What a film is taken for.  Scores are means over its time; it is unknown where most of it is."""

    duration_s: float | None = None  # until the end of its last frame
    announced_s: float | None = None  # the duration that it says it has
    frames: int = 0  # looked at
    decoded: int = 0  # all frames until the end
    damaged: int = 0  # parts of the file that yielded no frame
    segments: list[dict] = field(default_factory=list)  # {"start_s", "end_s", "label", "confidence", "unknown"}
    files: dict[str, str | None] = field(default_factory=lambda: dict.fromkeys(KINDS))  # kind → path

    @property
    def is_cut(self):
        """Whether more than a second of it is missing."""
        return (self.announced_s or 0) - (self.duration_s or 0) > 1

    def as_dict(self, top=None):
        result = super().as_dict(top)
        return result | result.pop("files")


def guess_film(classifier, path, options=FilmOptions(), out=None):  # noqa: B008 - frozen
    """FilmGuess of a file; where it cannot be read, its error says why.

    out: folder, made where it is missing, for the frames and segments as CSV, JSON and WebVTT and for a contact sheet.
    Nothing there is ever overwritten.  Raises RetrainError without PyAV, or where nothing can be written.
    """
    try:
        with open_film(path, options.every_s) as film:
            if out is None:
                return _guess(classifier, film, path, options)
            with FilmFiles(out, path, classifier.labels) as files:
                guess = _guess(classifier, film, path, options, files)
                guess.files = files.finish(guess.as_dict())
            return guess
    except ImageError as error:
        return FilmGuess(str(path), error=str(error))


def _guess(classifier, film, path, options, files=None):
    mean, segments = _Mean(len(classifier.labels)), []
    moments = map(mean.add, _moments(classifier, film, path, options.every_s, with_cells=files is not None))
    smoothed = smooth(moments, options.smooth_s)
    for segment in find_segments(files.noting(smoothed) if files else smoothed, SHORTEST_S if options.smooth_s else 0):
        segments.append(
            {
                "start_s": round(segment.start_s, 3), "end_s": round(segment.end_s, 3),
                "label": classifier.labels[segment.number], "confidence": segment.confidence,
                "unknown": segment.unknown,
            }
        )  # fmt: skip
        if files:
            files.keep(segments[-1], segment.picture)
    scores = mean.scores(classifier.labels)
    label = next(iter(scores))
    return FilmGuess(
        str(path), label, scores[label], scores, 2 * mean.unknown_s > mean.lasts,
        duration_s=round(film.end_s, 3), announced_s=film.duration_s and round(film.duration_s, 3),
        frames=mean.count, decoded=film.decoded, damaged=film.damaged, segments=segments,
    )  # fmt: skip


def _moments(classifier, film, path, every_s, with_cells):
    """Yield a Moment for each frame, until the next one; its picture is what was Seen.  Several are guessed at once."""

    def look(frame):
        time_s, image = frame
        guess = classifier.guess_image(image, path)
        cell = shrink(image) if with_cells else None
        seen = Seen(time_s, guess.label, guess.confidence, guess.unknown, cell)
        return seen, np.array([guess.scores[label] for label in classifier.labels])

    rate = min(film.rate, 1 / every_s) if every_s else film.rate
    looks = ordered_map(look, film.frames(), ahead=AHEAD)
    before = None
    for seen, probabilities in track(looks, "Guessing", round((film.duration_s or 0) * rate)):
        if before:
            yield _moment(*before, seen.time_s)
        before = seen, probabilities
    if before:
        yield _moment(*before, film.end_s)


def _moment(seen, probabilities, end_s):
    return Moment(seen.time_s, max(end_s, seen.time_s), probabilities, seen.unknown, seen)


class _Mean:
    """Mean of the probabilities of moments, weighed by how long these last."""

    def __init__(self, classes):
        self.totals, self.lasts, self.unknown_s, self.count = np.zeros(classes), 0.0, 0.0, 0

    def add(self, moment):
        seconds = max(moment.end_s - moment.start_s, 1e-9)
        self.totals += moment.probabilities * seconds
        self.lasts, self.unknown_s = self.lasts + seconds, self.unknown_s + seconds * moment.unknown
        self.count += 1
        return moment

    def scores(self, labels):
        means = self.totals / self.lasts
        return {labels[number]: float(means[number]) for number in np.argsort(-means, kind="stable")}

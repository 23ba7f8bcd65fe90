"""Charts: what stands where.  The page's template draws them as SVG."""

from dataclasses import dataclass
from math import ceil, log2

SIDE = 240  # units of the plotted square, whose origin is at its lower left
FLOORS = 0.0, 0.5, 0.8, 0.9, 0.95  # where an axis of accuracies may begin
MARKED = 20  # points; more are a line without marks


@dataclass(frozen=True)
class Axis:
    """From `low` to `high` over SIDE units.  ticks: (value, label)."""

    low: float
    high: float
    ticks: list[tuple[float, str]]
    title: str
    logarithmic: bool = False

    def place(self, value):
        """Units from the origin."""
        value = max(self.low, min(value, self.high))
        low, high, value = (log2(number) if self.logarithmic else number for number in (self.low, self.high, value))
        return round(SIDE * (value - low) / ((high - low) or 1), 1)


@dataclass(frozen=True)
class Series:
    """rows: (x, y, low, high), the last two the ends of an interval.  style: main or faint."""

    name: str
    rows: list[tuple[float, float, float, float]]
    style: str = "main"


@dataclass(frozen=True)
class Chart:
    """title and text tell it to those who do not see it, the table below it to everyone who asks."""

    title: str
    text: str
    x: Axis
    y: Axis
    series: list[Series]
    diagonal: bool = False

    def places(self, series):
        """(x, y, low, high) of each point in units, downwards from the upper left corner as SVG counts them."""
        for x, *ys in series.rows:
            yield self.x.place(x), *(round(SIDE - self.y.place(y), 1) for y in ys)


def reliability_chart(after, before=None):
    """Accuracy over confidence, of `metrics.reliability`, after and before temperature scaling."""

    def rows(bins):
        return [(row["confidence"], row["accuracy"], *row["interval"]) for row in bins]

    faint = [Series("before temperature scaling", rows(before), "faint")] if before else []
    return Chart(
        "Reliability diagram",
        "Accuracy over confidence, in bins of equally many pictures. On the diagonal a confidence means what it says.",
        _shares(0.0, "confidence"),
        _shares(0.0, "accuracy"),
        [*faint, Series("after temperature scaling" if before else "accuracy", rows(after))],
        diagonal=True,
    )


def risk_chart(curve):
    """Accuracy of the surest guesses over the share of pictures that they are, of `metrics.risk_coverage`."""
    rows = [(point["coverage"], point["accuracy"], point["accuracy"], point["accuracy"]) for point in curve]
    return Chart(
        "Accuracy against coverage",
        "Accuracy of the surest guesses over the share of all pictures that they are.",
        _shares(0.0, "coverage: share of the pictures"),
        _shares(_floor_of(row[1] for row in rows), "accuracy on these"),
        [Series("accuracy", rows)],
    )


def learning_chart(points):
    """Accuracy over the pictures learned, of `learning_curve`."""
    counts = [point["images"] for point in points]
    rows = [(point["images"], point["accuracy"], *point["interval"]) for point in points]
    return Chart(
        "Learning curve",
        "Accuracy over the number of pictures learned, each picture judged by a model that has not learned it.",
        Axis(counts[0], counts[-1], [(count, f"{count:,}") for count in counts], "pictures learned", logarithmic=True),
        _shares(_floor_of(row[2] for row in rows), "accuracy"),
        [Series("accuracy", rows)],
    )


def fine_tuning_charts(history):
    """Loss and accuracy over the epochs of a fine-tuning, of pictures learned and of validation pictures."""
    last = len(history)
    epochs = Axis(1, last, [(number, str(number)) for number in _few(last)], "epoch")

    def series(key):
        return [
            Series(name, [(row["epoch"], *[row[column]] * 3) for row in history], style)
            for name, column, style in (("pictures learned", key, "faint"), ("validation", f"val_{key}", "main"))
        ]

    losses, accuracies = series("loss"), series("accuracy")
    return [
        Chart("Loss by epoch", "Log-loss over the epochs; the epoch of the lowest on validation pictures is kept.",
              epochs, _losses(max(row[1] for each in losses for row in each.rows)), losses),
        Chart("Accuracy by epoch", "Accuracy over the epochs.", epochs,
              _shares(_floor_of(row[1] for each in accuracies for row in each.rows), "accuracy"), accuracies),
    ]  # fmt: skip


def _few(last):
    step = max(1, round(last / 8))
    return range(1, last + 1, step)


def _losses(highest):
    step = next((step for step in (0.05, 0.1, 0.2, 0.5, 1, 2, 5) if 6 * step >= highest), highest / 5)
    count = max(1, ceil(highest / step))
    return Axis(0, count * step, [(number * step, f"{number * step:.2f}") for number in range(count + 1)], "log-loss")


def _shares(low, title):
    values = [low + (1 - low) * step / 5 for step in range(6)]
    return Axis(low, 1.0, [(value, f"{100 * value:.0f} %") for value in values], title)


def _floor_of(values):
    lowest = min(values, default=0.0)
    return max(floor for floor in FLOORS if floor <= lowest)

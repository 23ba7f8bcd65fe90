"""How scores look on a terminal: a figure and, beside it, its 95 % interval."""

import click

from retrain.cli import plain
from retrain.cli.shared import percent


def row(name, share, interval, note=""):
    """A line of `print_rows` for a score of `retrain.metrics`; `-` where it is undefined."""
    return name, "-" if share is None else percent(share), f"({_range(interval)} %){note}"


def print_rows(rows):
    """Lines of name, figure and what is to be said of it, aligned."""
    width = max(len(name) for name, *_ in rows)
    for name, figure, note in rows:
        click.echo(f"{name:<{width}}  {figure:>7} {note}".rstrip())


def print_threshold(counts):
    """The seven lines about guesses from a threshold on: what `retrain.metrics.at_threshold` returns."""
    coverage = f", coverage {percent(counts['threshold_images'] / counts['total_images'])}"
    click.echo(f"\nGuesses of confidence {counts['threshold']:g} or more:")
    print_rows([
        ("total images", counts["total_images"], ""),
        ("threshold images", counts["threshold_images"], ""),
        ("missed", counts["missed"], ""),
        ("correctly classified", counts["correct"], ""),
        ("misclassified", counts["misclassified"], ""),
        _row("total accuracy", counts, "total_accuracy", f"{coverage}; the missed count as wrong"),
        _row("threshold accuracy", counts, "threshold_accuracy", coverage),
    ])  # fmt: skip


def unknown_rows(unknown):
    """Lines of `print_rows` about the pictures in `_unknown/`."""
    rows = [
        row(
            "of the unknown",
            unknown["rejected"],
            unknown["rejected_interval"],
            f", {unknown['images']} pictures in _unknown",
        )
    ]
    if unknown["auroc"] is not None:
        notes = ", known told from unknown", ", unknown not told where 95 % of the known are kept"
        rows += [
            row(key.upper(), unknown[key], unknown[f"{key}_interval"], note)
            for key, note in zip(("auroc", "fpr95"), notes, strict=True)
        ]
    return rows


def print_classes(per_class):
    """A line a class, in percent."""
    width = max(map(len, ["class", *per_class]))
    click.echo(f"{'class':<{width}}  pictures  {'precision %':<21} {'recall %':<21} F1 %")
    for name, scores in per_class.items():
        columns = " ".join(f"{_cell(scores, key):<21}" for key in ("precision", "recall", "f1"))
        click.echo(f"{plain(name):<{width}}  {scores['support']:>8}  {columns}".rstrip())


def print_labels(result):
    """The scores of a model that tells several labels, but for the first."""
    print_rows([
        _row("F1, mean of the labels", result, "macro_f1"),
        _row("subset accuracy", result, "accuracy", ", all labels right and none missed"),
    ])  # fmt: skip


def print_per_label(per_class):
    """A line a label, in percent."""
    width = max(map(len, ["label", *per_class]))
    names = " ".join(f"{name:<21}" for name in ("average precision %", "precision %", "recall %"))
    click.echo(f"{'label':<{width}}  pictures  told from  {names} F1 %")
    for name, scores in per_class.items():
        columns = " ".join(f"{_cell(scores, key):<21}" for key in ("average_precision", "precision", "recall", "f1"))
        told_from = f"{scores['threshold']:>9.3f}"
        click.echo(f"{plain(name):<{width}}  {scores['support']:>8}  {told_from}  {columns}".rstrip())


def print_confused(most_confused):
    """A line for each class that is taken for another, the most frequent mistake first."""
    for pair in most_confused:
        interval = f"{percent(pair['share'])} ({_range(pair['share_interval'])} %)"
        click.echo(
            f"{plain(pair['truth'])} taken for {plain(pair['guess'])}: {pair['count']} of {pair['support']}, {interval}"
        )


def _cell(scores, name):
    if scores[name] is None:
        return f"{'-':>5}"
    return f"{100 * scores[name]:5.1f} ({_range(scores[f'{name}_interval'])})"


def _range(interval):
    return f"{100 * interval[0]:.1f}-{100 * interval[1]:.1f}"


def _row(name, scores, key, note=""):
    return row(name, scores[key], scores[f"{key}_interval"], note)

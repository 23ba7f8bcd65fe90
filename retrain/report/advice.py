"""What would make a model better, in sentences for the page and the terminal."""

import numpy as np

from retrain.report.page import percent

FEW = 20  # pictures a class, below which little can be learned and less be measured
NAMED = 5  # classes in a sentence
LITTLE = 0.03  # gained by four times as many pictures
TOGETHER = 0.1  # share of pictures with several labels, below which a model often tells but one of them


def advise(classes, counts, matrix, learning_curve=None, shortcut=None):
    """Sentences, the most important first; none where nothing is known.

    counts: {class: pictures}.  matrix: counts int (C, C) of all judged pictures, rows the truth.
    learning_curve, shortcut: of `learning_curve` and `check_shortcut`.
    """
    return [
        *_on_shortcut(shortcut),
        *_on_confusion(classes, np.asarray(matrix)),
        *_on_more_pictures(classes, learning_curve),
        *_on_small_classes(counts),
    ]


def advise_on_labels(counts, together):
    """Sentences on a set whose pictures may have several labels.

    counts: {label: pictures}.  together: share of the pictures that have two labels or more.
    """
    return [*_on_labels_apart(together), *_on_small_classes(counts)]


def _on_labels_apart(together):
    if together < TOGETHER:
        yield (
            f"{percent(together)} of the pictures have several labels. Add such as show two of them together: who has "
            "seen few often tells only the clearer one."
        )


def _on_shortcut(shortcut):
    if shortcut and shortcut["flagged"]:
        names = _names(shortcut["classes"]) or "the classes"
        yield f"Warning: {names} may be told by the background. Add pictures of the same things in other places."


def _on_confusion(classes, matrix):
    both = np.triu(matrix + matrix.T, 1)
    first, second = np.unravel_index(both.argmax(), both.shape)
    mistakes, total = both[first, second], matrix[[first, second]].sum()
    if mistakes:
        yield (
            f"{classes[first]} and {classes[second]} are confused most: {mistakes} of their {total} judged pictures. "
            "Look whether these show one of them alone, under the right label."
        )


def _on_more_pictures(classes, curve):
    if not curve:
        return
    before, after = curve["points"][-2:]
    gained = (
        f"from {before['images']} to {after['images']} pictures the accuracy went from "
        f"{percent(before['accuracy'])} to {percent(after['accuracy'])}"
    )
    if curve["helps_most"]:
        most = curve["helps_most"][0]
        yield (
            f"More pictures of {classes[most['class']]} would help most: with four times as many pictures its recall "
            f"rose by {100 * most['gain']:.0f} points, the accuracy of all by {100 * curve['gain']['gain']:.0f} "
            f"({percent(most['confidence'])} sure that this is no chance)."
        )
    elif after["accuracy"] > before["interval"][1]:
        yield f"More pictures of every class would help, of none more than of the others: {gained}."
    elif curve["gain"]["interval"][1] < LITTLE:
        yield f"More pictures would bring little: {gained}."


def _on_small_classes(counts):
    small = sorted((count, name) for name, count in counts.items() if count < FEW)
    if small:
        listed = ", ".join(f"{name} ({count})" for count, name in small[:NAMED])
        more = f" and {len(small) - NAMED} more" if len(small) > NAMED else ""
        yield f"Fewer than {FEW} pictures: {listed}{more}. That is little to learn from, and too little to measure."


def _names(names):
    listed = ", ".join(names[:NAMED])
    return f"{listed} and {len(names) - NAMED} more" if len(names) > NAMED else listed

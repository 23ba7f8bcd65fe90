"""The README beside an export: how to run it, and how far it is from our own guesses."""

from string import Template

from retrain.exports import COMPARED

SQUARE = """\
picture = ImageOps.exif_transpose(Image.open(sys.argv[1])).convert("RGB")
square = ImageOps.fit(picture, ($side, $side), Image.Resampling.BICUBIC, bleed=$bleed)"""
SHOW = """\
labels = open("labels.txt", encoding="utf-8").read().splitlines()
for label, score in sorted(zip(labels, scores), key=lambda pair: -pair[1]):
    print(f"{label} (score = {score:.5f})")
"""
EXIF = """\
Fed with a picture's bytes it does all this itself but for the turning: **EXIF is not applied inside a graph**. Turn
pictures upright before, as `ImageOps.exif_transpose` of Pillow does."""
SEVERAL = """\
A picture may have several labels: those count whose probability is at least their threshold in `metadata.json`."""
UNKNOWN = """\
It knows its labels and nothing else: `retrain guess` tells a picture of something unknown, this does not."""
PAGE = """\
# An image classifier: $name

Made by $made_by from a model with $classes labels. `labels.txt` has them in order, `metadata.json` all else.

$how
```python
$code```

`run.py` is the text above, and needs $needs. Run it so, in this folder: `python run.py picture.jpg`.

## What it is given

$preprocessing

## How near it is to `retrain guess`

$nearness

$head

Inside: $networks.
"""


def render(subject, module, name, told):
    """Texts of README.md and of run.py.  module: of the format; told: what `export` tells of it."""
    described = subject.described
    words = {
        "side": described["image_size"], "bleed": (1 - described["crop"]) / 2, "classes": len(described["labels"]),
        "name": name, "made_by": described["made_by"],
    }  # fmt: skip
    words |= {"show": SHOW, "square": Template(SQUARE).substitute(words)}
    code, how = Template(module.CODE).substitute(words), Template(module.HOW).substitute(words)
    page = Template(PAGE).substitute(
        words, how=how, code=code, needs=module.NEEDS, preprocessing=_preprocessing(subject, module),
        nearness=_nearness(told), head=_head(told["head"]), networks=_networks(subject.model),
    )  # fmt: skip
    return page, code


def _preprocessing(subject, module):
    described = subject.described
    steps = described["preprocessing"]
    text = f"{steps['orientation']}, take {steps['crop']}, resize it {steps['resize']}: {steps['pixels']}."
    text = f"{text[0].upper()}{text[1:]} The probabilities are calibrated: a temperature is in the head."
    if subject.model.detector and hasattr(module, "run"):
        text += f"\n\n{UNKNOWN}"
    if hasattr(module, "run_bytes"):
        text += f"\n\n{EXIF}"
    return f"{text}\n\n{SEVERAL}" if described["several_labels"] else text


def _nearness(told):
    rows = [
        f"| {COMPARED[what]} | {each['max']:.1e} | {each['median']:.1e} | {each['agreed']} of {each['pictures']} |"
        for what, each in told["differences"].items()
    ]
    if not rows:
        return "It is the model itself: all is the same."
    return "\n".join([
        f"Probabilities of {told['checked_on']}, before this was written:", "",
        "| | largest difference | median | same label |", "|---|---|---|---|", *rows,
    ])  # fmt: skip


def _head(head):
    if head["refitted"]:
        return (
            f"The head was fitted to say of {head['pictures']} pictures in float32 what the model says of them in int8."
        )
    return f"The head is the model's own{': ' if head['why'] else ''}{head['why'] or ''}."


def _networks(model):
    specs = [backbone.spec for backbone in model.backbones]
    return ", ".join(f"{spec.name} ({', '.join(dict.fromkeys([spec.licence, spec.paper]))})" for spec in specs)

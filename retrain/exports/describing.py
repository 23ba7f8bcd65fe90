"""What an export says of itself, beside the file and, where it has a place for it, inside."""

import json
import unicodedata
from dataclasses import dataclass
from pathlib import Path

import retrain
from retrain.graph_classifier import told_apart
from retrain.model import Model


@dataclass(frozen=True)
class Subject:
    """What is exported."""

    model: Model  # in the precision of the format
    model_dir: Path
    described: dict  # see `describe`

    @property
    def labels(self):
        """A label a line."""
        return "".join(f"{label}\n" for label in self.described["labels"])


def describe(model):
    """What whoever runs an exported Model has to know, for JSON."""
    labels = told_apart(_line(name) for name in model.classes)
    side, spec = max(backbone.spec.image_size for backbone in model.backbones), model.backbones[0].spec
    described = {
        "made_by": f"retrain {retrain.__version__}",
        "labels": labels,
        "several_labels": model.head.kind == "sigmoid",
        "preprocessing": {
            "orientation": "turn the picture upright as its EXIF says",
            "crop": f"the middle square, {spec.crop:g} of the shorter side",
            "resize": f"bicubic and antialiased to {side} x {side} px",
            "pixels": "RGB, 0-255; what else the networks want is inside",
        },
        "image_size": side,
        "crop": spec.crop,
        "temperature": model.temperature,  # in the head already
        "backbones": [backbone.spec.name for backbone in model.backbones],
    }
    if model.head.thresholds is not None:
        described["thresholds"] = dict(zip(labels, model.head.thresholds.tolist(), strict=True))
    return described


def _line(name):
    """A class's name as a line of UTF-8 that gives terminals no orders: names of folders may be anything."""
    line = " ".join(name.encode("utf-8", "replace").decode().splitlines())
    return "".join("?" if unicodedata.category(letter) == "Cc" else letter for letter in line)


def as_text(described):
    return json.dumps(described, ensure_ascii=False, indent=2) + "\n"

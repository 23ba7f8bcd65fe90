"""Repeat: train as a model was trained, and say what is not as it was then."""

import logging
from dataclasses import fields, replace
from typing import Any, get_origin

from retrain.errors import RetrainError
from retrain.model import HEAD_FILE, load_manifest
from retrain.options import QUALITIES
from retrain.recipes.training import options_kept, train

SHOWN = 12  # characters of a checksum

log = logging.getLogger("retrain")


def train_like(like, data, **typed):
    """Train with the options of a model, and save the new one.

    like: its folder, or its `model.json` alone.  typed: TrainOptions that win over the model's.
    Returns what `train` does, and under "differences" what was not as it was: [{"what", "then", "now"}].  Without any,
    the head is the same, byte for byte.  Raises RetrainError.
    """
    manifest = load_manifest(like)
    then, options = _read(manifest, like)
    options = replace(options, **typed)
    if "backbone" not in typed:
        options = replace(options, backbone=None if "quality" in typed else _backbone(manifest, options))
    result = train(data, options)
    result["differences"] = _differences(then, _facts(load_manifest(result["model_dir"])))
    for row in result["differences"]:
        log.warning("%s: %s now, %s then.", row["what"], row["now"], row["then"])
    return result


def _read(manifest, like):
    """The facts of a model and its TrainOptions, both before any work."""
    try:
        facts = _facts(manifest)
        options = replace(options_kept(manifest["info"]), multi_label="thresholds" in manifest)
        for field in fields(options):
            kind: Any = get_origin(field.type) if get_origin(field.type) is tuple else field.type
            if not isinstance(getattr(options, field.name), (kind, int) if kind is float else kind):
                raise TypeError(f"{field.name} is {getattr(options, field.name)!r}")
    except (KeyError, TypeError, AttributeError) as error:
        raise RetrainError(f"{like} does not say how it was trained: {error}.", "Name the options instead.") from error
    return facts, options


def _backbone(manifest, options):
    """The backbone to name beside the quality: what this quality was then, if it is another one now."""
    for entry in manifest["backbones"]:
        if entry["spec"].get("source_sha256") and "://" not in entry["spec"]["name"]:
            raise RetrainError(
                f"that model was trained on {entry['spec']['name']}, which is not kept by its place.",
                "Say where it is: --backbone FILE.",
            )
    used = manifest["info"]["backbone"]
    return used if options.backbone or QUALITIES.get(options.quality) != used else None


def _differences(then, now):
    return [
        {"what": what, "then": then.get(what), "now": now.get(what)}
        for what in dict.fromkeys([*then, *now])
        if then.get(what) != now.get(what)
    ]


def _facts(manifest):
    """{what: value} of all that a head depends on, and of the head itself."""
    info, files = manifest["info"], manifest["files"]
    return {
        "pictures": info["data_sha256"][:SHOWN],
        "classes": ", ".join(manifest["classes"]),
        **{f"option {name}": value for name, value in info["options"].items()},
        "backbone": ", ".join(
            f"{entry['spec']['name']} {files[entry['file']][:SHOWN]}" for entry in manifest["backbones"]
        ),
        **info["versions"],
        **info.get("platform", {}),
        HEAD_FILE: files[HEAD_FILE][:SHOWN],
    }

"""Self-contained HTML pages: about a trained model, and about the suspects that `clean` found."""

import base64
import io
import os
from importlib import resources
from pathlib import Path

from PIL import Image

from retrain.errors import RetrainError
from retrain.images import ImageError, decode, read
from retrain.parallel import ordered_map

SUSPECTS_SHOWN = 100  # a check
PICTURES_SHOWN = 6  # a suspect
THUMBNAIL_SIDE = 180  # px
GENERATOR = b'<meta name="generator" content="retrain clean">'


def render_report(model):
    """HTML of a model's report, from what the model itself carries.  Everything in it is escaped."""
    return _render("report.html.j2", classes=model.classes, **model.info)


def write_suspects(plan, data, path):
    """Write a page that shows the pictures of a plan of `clean`, worst first, with their reasons.

    data: the folder that names are shown relative to.  Overwrites nothing but such a page.  Raises RetrainError.
    """
    path = Path(path)
    shown = {
        check: [finding for finding in plan["findings"] if finding["check"] == check][:SUSPECTS_SHOWN]
        for check, count in plan["counts"].items()
        if count
    }
    paths = [name for findings in shown.values() for finding in findings for name in finding["paths"][:PICTURES_SHOWN]]
    pictures = dict(zip(paths, ordered_map(_data_url, paths), strict=True))

    def name_of(path):
        return os.fsencode(os.path.relpath(path, data)).decode("utf-8", "replace")

    page = _render(
        "suspects.html.j2", data=os.fsencode(data).decode("utf-8", "replace"), counts=plan["counts"], shown=shown,
        pictures=pictures, name_of=name_of, most=PICTURES_SHOWN,
    )  # fmt: skip
    try:
        if path.exists() and GENERATOR not in path.read_bytes()[:1000]:
            raise RetrainError(f"{path} is there already, and no page of suspects.", "Name another file.")
        path.write_text(page, "utf-8", "replace")
    except OSError as error:
        raise RetrainError(f"{path} cannot be written: {error.strerror}.", "Name another file.") from error


def _render(template, **values):
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["percent"] = lambda share: f"{100 * share:.1f} %"
    text = resources.files("retrain.report").joinpath(template).read_text("utf-8")
    return environment.from_string(text).render(**values)


def _data_url(path):
    """A small JPEG of a picture, embedded; None where there is no picture."""
    try:
        image = decode(read(path))
    except ImageError:
        return None
    image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.BILINEAR)
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=75)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"

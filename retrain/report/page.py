"""From a template to a page: escaped, without a way to the network, and never written over a file that is not ours."""

import base64
import hashlib
import os
import re
from importlib import resources
from pathlib import Path

from retrain.errors import RetrainError

HEAD = 1_000  # bytes, within which a page says what it is
UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")  # file names may hold any of these


def render(template, **values):
    """HTML of a template of this package, everything in it escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("retrain.report", ""), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, finalize=_printable,
    )  # fmt: skip
    environment.filters["percent"] = percent
    return environment.get_template(template).render(**values)


def style(name):
    """A style sheet of this package, and what the page's security policy must say for it to be taken."""
    text = resources.files("retrain.report").joinpath(name).read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return text, f"'sha256-{digest}'"


def write_page(page, path, generator):
    """Write a page.  Overwrites nothing but one of the same generator.  Raises RetrainError."""
    path = Path(path)
    try:
        there = path.read_bytes()[:HEAD] if path.exists() else b""
        if there and f'name="generator" content="{generator}"'.encode() not in there:
            raise RetrainError(f"{path} is there already, and no page of {generator}.", "Name another file.")
        part = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            part.write_text(page, "utf-8", "replace")
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise RetrainError(f"{path} cannot be written: {error.strerror}.", "Name another file.") from error


def name_of(path):
    """A path for a page, whatever bytes it holds."""
    return os.fsencode(path).decode("utf-8", "replace")


def percent(share):
    """`91.0 %`, and a dash for what is undefined."""
    return "–" if share is None else f"{100 * share:.1f} %"


def _printable(value):
    return UNPRINTABLE.sub("\ufffd", value) if type(value) is str else value

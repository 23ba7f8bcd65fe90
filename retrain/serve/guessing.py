"""Our own dialect: pictures in, by a form, as base64 or as they are; guesses out, as `guess --json` prints them."""

import base64
from typing import Annotated

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from retrain.options import TrustOptions
from retrain.serve.bodies import parse, picture_of

FORM, JSON = "multipart/form-data", "application/json"
STATUS = {"too_large": 413, "not_an_image": 415}  # of a picture that is the only one; else 422
BODY = {"requestBody": {"required": True, "content": {
    FORM: {"schema": {"type": "object", "required": ["file"], "properties": {
        "file": {"type": "array", "items": {"type": "string", "format": "binary"}, "minItems": 1}}}},
    JSON: {"schema": {"type": "object", "required": ["images"], "properties": {
        "images": {"type": "array", "items": {"type": "string", "contentEncoding": "base64"}, "minItems": 1}}}},
    "image/*": {"schema": {"type": "string", "format": "binary"}},
}}}  # fmt: skip

router = APIRouter(tags=["retrain"])


class Guessed(BaseModel):
    """A guess, as `retrain guess --json` prints it; path is the name that the client gave the picture."""

    path: str
    label: str | None
    confidence: float | None
    scores: dict[str, float]
    unknown: bool
    candidates: list[str] | None
    labels: list[str] | None
    error: str | None
    heat_map: str | None = None  # data: address of a JPEG


class Answer(BaseModel):
    guesses: list[Guessed]
    model: str
    version: int


class Images(BaseModel):
    images: list[str]


@router.post(
    "/guess", response_model=Answer, openapi_extra=BODY,
    responses={status: {"description": text} for status, text in {
        400: "The body is not what its type says.", 413: "Too many or too large.", 415: "No picture.",
        422: "A picture that cannot be read, or an option that the model cannot keep.", 503: "Busy, or no model yet.",
    }.items()},
)  # fmt: skip
async def guess(
    request: Request,
    top: Annotated[int | None, Query(ge=1, description="Labels to return.")] = None,
    threshold: Annotated[float | None, Query(ge=0, le=1, description="Below it a picture is unknown.")] = None,
    coverage: Annotated[
        float | None, Query(gt=0, lt=1, description="Return so many candidates that the true label is among them.")
    ] = None,
    explain: Annotated[bool, Query(description="Return a heat map of each picture.")] = False,
):
    """Say what is on pictures.  One that is none has an error, and a status of its own where it is the only one."""
    app = request.app.state
    pictures = await _pictures(request, app.options)
    trust = app.engine.trust
    if threshold is not None or coverage is not None:
        trust = TrustOptions(
            trust.threshold if threshold is None else threshold, trust.reject_rate, coverage or trust.coverage
        )
    served, found = await app.engine.guess(pictures, trust, explain)
    rows = [
        guess.as_dict(top) | {"heat_map": jpeg and f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"}
        for guess, jpeg in found
    ]
    for row in rows:
        app.metrics.pictures.labels("failed" if row["error"] else "unknown" if row["unknown"] else "guessed").inc()
    answer = {"guesses": rows, "model": app.options.name, "version": served.version}
    if len(rows) == 1 and rows[0]["error"]:
        reason = rows[0]["error"].partition(" ")[0]
        return JSONResponse({"error": rows[0]["error"]} | answer, STATUS.get(reason, 422))
    return JSONResponse(answer)


async def _pictures(request, options):
    """[(name, bytes)] of a request.  Raises HTTPException."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == FORM:
        pictures = await form_pictures(request, options)
    elif kind == JSON:
        pictures = _of_json(await request.body(), options)
    elif kind.startswith("image/") or kind == "application/octet-stream":
        pictures = [("-", await request.body())]
    else:
        raise HTTPException(
            415, f"{kind or 'a body without a type'} is not understood; send {FORM}, {JSON} or image/*."
        )
    if not pictures:
        raise HTTPException(400, "there is no picture in it; the field of a form is named file.")
    return pictures


async def form_pictures(request, options):
    """[(name, bytes)] of the files in a form's field `file`.  Raises HTTPException."""
    # Kept in memory, whose use the guard limits.
    parser = MultiPartParser(request.headers, request.stream(), max_files=options.max_images + 1, max_fields=16)
    parser.spool_max_size = options.max_bytes
    try:
        form = await parser.parse()
    except MultiPartException as error:
        if "Too many files" in error.message:
            raise _too_many(options) from error
        raise HTTPException(400, error.message) from error
    except (KeyError, ValueError) as error:
        raise HTTPException(400, "the form has no boundary, or is damaged.") from error
    files = [value for name, value in form.multi_items() if name == "file" and isinstance(value, UploadFile)]
    if len(files) > options.max_images:
        raise _too_many(options)
    # A charset that the client names may decode to what no JSON can hold.
    names = [(file.filename or "-").encode(errors="replace").decode() for file in files]
    return [(name, await file.read()) for name, file in zip(names, files, strict=True)]


def _of_json(body, options):
    images = parse(Images, body).images
    if len(images) > options.max_images:
        raise _too_many(options)
    return [(str(number), picture_of(image)) for number, image in enumerate(images)]


def _too_many(options):
    return HTTPException(413, f"more than {options.max_images} pictures in one request.")

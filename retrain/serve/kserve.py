"""The V2 dialect of KServe (https://kserve.github.io/website/docs/concepts/architecture/data-plane/v2-protocol).

Pictures are BYTES: base64 in JSON, or as they are in the binary extension that the clients of Triton use.
"""

import math
import struct
from typing import Annotated, Any

from fastapi import APIRouter, Header, HTTPException, Request
from pydantic import BaseModel, Field

from retrain import __version__
from retrain.serve.bodies import MAX_VALUES, parse, picture_of, schema_of
from retrain.serve.tf_serving import Name, find_served, guess_all

INPUT = "image"

router = APIRouter(prefix="/v2", tags=["KServe V2"])


class Tensor(BaseModel):
    name: str
    shape: Annotated[list[Annotated[int, Field(ge=0, le=MAX_VALUES)]], Field(max_length=8)]
    datatype: str
    parameters: dict[str, Any] = {}
    data: list[Any] | None = None


class RequestedOutput(BaseModel):
    name: str
    parameters: dict[str, Any] = {}


class InferRequest(BaseModel):
    id: str | None = None
    parameters: dict[str, Any] = {}
    inputs: list[Tensor]
    outputs: list[RequestedOutput] = []


@router.get("")
async def server():
    """What this server is."""
    return {"name": "retrain", "version": __version__, "extensions": ["binary_tensor_data"]}


@router.get("/health/live")
async def live():
    """Whether the server runs."""
    return {"live": True}


@router.get("/health/ready")
async def ready(request: Request):
    """Whether there is a model."""
    if not request.app.state.engine.version:
        raise HTTPException(503, "there is no model yet.")
    return {"ready": True}


@router.get("/models/{name}")
@router.get("/models/{name}/versions/{version}")
async def model(request: Request, name: Name, version: str | None = None):
    """What goes in and comes out."""
    served = _served(request, name, version)
    count = len(served.model.classes)
    return {
        "name": name, "versions": [str(served.version)], "platform": "retrain",
        "inputs": [{"name": INPUT, "datatype": "BYTES", "shape": [-1]}],
        "outputs": [
            {"name": "probabilities", "datatype": "FP32", "shape": [-1, count]},
            {"name": "label", "datatype": "BYTES", "shape": [-1]},
        ],
        "parameters": {"labels": served.model.classes},
    }  # fmt: skip


@router.get("/models/{name}/ready")
@router.get("/models/{name}/versions/{version}/ready")
async def model_ready(request: Request, name: Name, version: str | None = None):
    """Whether that model answers."""
    _served(request, name, version)
    return {"name": name, "ready": True}


@router.post("/models/{name}/infer", openapi_extra=schema_of(InferRequest))
@router.post("/models/{name}/versions/{version}/infer", openapi_extra=schema_of(InferRequest))
async def infer(
    request: Request,
    name: Name,
    version: str | None = None,
    inference_header_content_length: Annotated[int | None, Header(ge=0)] = None,
):
    """Probabilities and the label of each picture."""
    served = _served(request, name, version)
    body = await request.body()
    length = len(body) if inference_header_content_length is None else inference_header_content_length
    asked = parse(InferRequest, body[:length])
    scores = await guess_all(request, served, _pictures(asked, body[length:]))
    labels = served.model.classes
    outputs = {
        "probabilities": ("FP32", [len(scores), len(labels)], [row[label] for row in scores for label in labels]),
        "label": ("BYTES", [len(scores)], [next(iter(row)) for row in scores]),
    }
    wanted = [output.name for output in asked.outputs] or list(outputs)
    if unknown := set(wanted) - set(outputs):
        raise HTTPException(400, f"unexpected inference output {sorted(unknown)[0]!r} for model {name!r}")
    rows = [
        {"name": output, "datatype": kind, "shape": shape, "data": data}
        for output, (kind, shape, data) in ((output, outputs[output]) for output in dict.fromkeys(wanted))
    ]
    answer = {"model_name": name, "model_version": str(served.version), "outputs": rows}
    return answer | ({"id": asked.id} if asked.id is not None else {})


def _served(request, name, version):
    served = find_served(request, name, version)
    if served is None:
        raise HTTPException(404, f"Request for unknown model: {name!r} version {version or 'latest'} is not found")
    return served


def _pictures(asked, binary):
    """Bytes of the pictures of the only input."""
    if len(asked.inputs) != 1 or asked.inputs[0].datatype != "BYTES":
        raise HTTPException(400, "the model has one input, of datatype BYTES.")
    (tensor,) = asked.inputs
    size = tensor.parameters.get("binary_data_size")
    if size is None:
        pictures = [picture_of(value) for value in _flat(tensor.data or [])]
    elif size == len(binary):
        pictures = _unpacked(binary)
    else:
        raise HTTPException(400, f"{len(binary)} bytes follow the JSON, and binary_data_size says {size}.")
    if math.prod(tensor.shape) != len(pictures):
        raise HTTPException(400, f"the shape {tensor.shape} is not that of {len(pictures)} pictures.")
    return pictures


def _flat(values):
    for value in values:
        if isinstance(value, list):
            yield from _flat(value)
        else:
            yield value


def _unpacked(binary):
    """Byte strings, each after its length of four bytes, the lowest first."""
    found, place = [], 0
    while place < len(binary):
        if place + 4 > len(binary):
            raise HTTPException(400, "the binary data ends within a length.")
        (length,) = struct.unpack_from("<I", binary, place)
        place += 4
        if place + length > len(binary):
            raise HTTPException(400, "the binary data ends within a picture.")
        found.append(binary[place : place + length])
        place += length
    return found

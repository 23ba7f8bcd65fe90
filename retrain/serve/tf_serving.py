"""The REST dialect of TensorFlow Serving (https://www.tensorflow.org/tfx/serving/api_rest), for pictures as bytes.

It answers as that does with our exported SavedModel: `image_bytes` in, `probabilities` in the order of the labels and
the best `label` out.
"""

from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Path, Request
from pydantic import BaseModel

from retrain.serve.bodies import parse, picture_of, schema_of
from retrain.serve.engine import NoModelError

INPUT, PROBABILITIES, LABEL, SIGNATURE = "image_bytes", "probabilities", "label", "serving_default"
Name = Annotated[str, Path(pattern="^[^:/]+$", examples=["retrain"])]

router = APIRouter(prefix="/v1/models", tags=["TensorFlow Serving"])


class PredictRequest(BaseModel):
    signature_name: str = SIGNATURE
    instances: list[Any] | None = None
    inputs: Any = None


class ClassifyRequest(BaseModel):
    signature_name: str = SIGNATURE
    context: dict[str, Any] | None = None
    examples: list[dict[str, Any]]


@router.get("/{name}")
@router.get("/{name}/versions/{version}")
async def status(request: Request, name: Name, version: str | None = None):
    """Whether the model is there."""
    served = _served(request, name, version)
    state = {"state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    return {"model_version_status": [{"version": str(served.version)} | state]}


@router.get("/{name}/metadata")
@router.get("/{name}/versions/{version}/metadata")
async def metadata(request: Request, name: Name, version: str | None = None):
    """What goes in and comes out."""
    served = _served(request, name, version)
    signature = {
        "inputs": {INPUT: _tensor(INPUT, "DT_STRING", -1)},
        "outputs": {
            PROBABILITIES: _tensor(PROBABILITIES, "DT_FLOAT", -1, len(served.model.classes)),
            LABEL: _tensor(LABEL, "DT_STRING", -1),
        },
        "method_name": "tensorflow/serving/predict",
    }
    return {
        "model_spec": {"name": name, "signature_name": "", "version": str(served.version)},
        "metadata": {"signature_def": {"signature_def": {SIGNATURE: signature}}, "labels": served.model.classes},
    }


@router.post("/{name}:predict", openapi_extra=schema_of(PredictRequest))
@router.post("/{name}/versions/{version}:predict", openapi_extra=schema_of(PredictRequest))
async def predict(request: Request, name: Name, version: str | None = None):
    """Label of each picture, and its probabilities in the order of the labels that the metadata names."""
    served, asked = _served(request, name, version), parse(PredictRequest, await request.body())
    if (asked.instances is None) == (asked.inputs is None):
        raise HTTPException(400, "give either instances or inputs.")
    values = asked.instances if asked.instances is not None else _column(asked.inputs)
    rows = await guess_all(request, served, [_bytes_of(value) for value in values], asked.signature_name)
    probabilities = [[scores[label] for label in served.model.classes] for scores in rows]
    labels = [next(iter(scores)) for scores in rows]
    if asked.instances is None:
        return {"outputs": {PROBABILITIES: probabilities, LABEL: labels}}
    pairs = zip(probabilities, labels, strict=True)
    return {"predictions": [{PROBABILITIES: each, LABEL: label} for each, label in pairs]}


@router.post("/{name}:classify", openapi_extra=schema_of(ClassifyRequest))
@router.post("/{name}/versions/{version}:classify", openapi_extra=schema_of(ClassifyRequest))
async def classify(request: Request, name: Name, version: str | None = None):
    """Pairs of a label and its score for each picture, best first."""
    served, asked = _served(request, name, version), parse(ClassifyRequest, await request.body())
    pictures = [_bytes_of((asked.context or {}) | example) for example in asked.examples]
    found = [list(scores.items()) for scores in await guess_all(request, served, pictures, asked.signature_name)]
    return {"result": found, "results": found}  # the documentation names the one, the server the other


async def guess_all(request, served, pictures, signature=SIGNATURE):
    """{label: score} of each of the pictures, bytes.  Raises HTTPException: of one that is none, too."""
    app = request.app.state
    if signature != SIGNATURE:
        raise HTTPException(400, f'Serving signature name: "{signature}" not found in signature def')
    if not pictures:
        raise HTTPException(400, "there is no picture in it.")
    if len(pictures) > app.options.max_images:
        raise HTTPException(413, f"more than {app.options.max_images} pictures in one request.")
    numbered = [(str(number), data) for number, data in enumerate(pictures)]
    _, found = await app.engine.guess(numbered, served=served)
    for guess, _ in found:
        app.metrics.pictures.labels("failed" if guess.error else "unknown" if guess.unknown else "guessed").inc()
        if guess.error:
            raise HTTPException(400, f"picture {guess.path}: {guess.error}")
    return [guess.scores for guess, _ in found]


def find_served(request, name, version):
    """The Served of a name and version; None where there is none."""
    app = request.app.state
    try:
        served = app.engine.served
    except NoModelError:
        return None
    return served if name == app.options.name and version in (None, str(served.version)) else None


def _served(request, name, version):
    served = find_served(request, name, version)
    if served is None:
        asked = f"Latest({name})" if version is None else f"Specific({name}, {version})"
        raise HTTPException(404, f"Servable not found for request: {asked}")
    return served


def _tensor(name, dtype, *sizes):
    shape = {"dim": [{"size": str(size), "name": ""} for size in sizes], "unknown_rank": False}
    return {"dtype": dtype, "tensor_shape": shape, "name": f"{name}:0"}


def _column(inputs):
    """The pictures of the columnar form: a list, or one named input that is a list or a single picture."""
    if isinstance(inputs, dict) and "b64" not in inputs:
        if list(inputs) != [INPUT]:
            raise HTTPException(400, f"the model has one input, {INPUT}.")
        inputs = inputs[INPUT]
    return inputs if isinstance(inputs, list) else [inputs]


def _bytes_of(value):
    """Bytes in {"b64": …}, or in the only input of {"image_bytes": {"b64": …}}, however that is called."""
    if isinstance(value, dict) and len(value) == 1 and "b64" not in value:
        value = next(iter(value.values()))
    if not isinstance(value, dict) or "b64" not in value:
        raise HTTPException(400, 'a picture is {"b64": "<base64>"}.')
    return picture_of(value["b64"])

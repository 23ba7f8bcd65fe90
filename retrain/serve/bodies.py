"""Bodies in JSON, whatever type the client calls them: `curl -d` sends a form's."""

import base64

from fastapi import HTTPException
from pydantic import ValidationError

MAX_VALUES = 10_000  # in a body: some bytes of JSON make far larger objects
_URL_SAFE = bytes.maketrans(b"-_", b"+/")


def schema_of(model):
    """For OpenAPI: a body in JSON of a Pydantic model."""
    schema = model.model_json_schema()
    parts = schema.pop("$defs", {})
    content = {"application/json": {"schema": _with_parts(schema, parts)}}
    return {"requestBody": {"required": True, "content": content}}


def _with_parts(schema, parts):
    """The schema with each part in the place of what refers to it: a body has no place of its own for them."""
    if isinstance(schema, list):
        return [_with_parts(each, parts) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _with_parts(parts[schema["$ref"].rpartition("/")[2]], parts)
    return {key: _with_parts(value, parts) for key, value in schema.items()}


def parse(model, body):
    """The Pydantic model in the bytes of a body.  Raises HTTPException with what is wrong and where."""
    if body.count(b",") > MAX_VALUES:
        raise HTTPException(413, f"more than {MAX_VALUES} values in one request.")
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the body"
        raise HTTPException(400, f"{where}: {first['msg']}.") from error


def picture_of(text):
    """Bytes of base64 in either alphabet, be it in a data: address.  Raises HTTPException."""
    if isinstance(text, str):
        if text.startswith("data:"):
            text = text.partition(",")[2]
        try:
            data = text.encode("ascii").translate(_URL_SAFE, b"\r\n").rstrip(b"=")
            return base64.b64decode(data + b"=" * (-len(data) % 4), validate=True)
        except ValueError:
            pass
    raise HTTPException(400, "a picture is no base64.")

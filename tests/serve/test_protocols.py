"""The dialects of TensorFlow Serving and KServe, by their published shapes."""

import base64
import json
import struct

import numpy as np
import pytest
import requests

from retrain import Classifier


@pytest.fixture(scope="module")
def classifier(trained):
    return Classifier.load(trained / "model")


@pytest.fixture
def probabilities(classifier, picture):
    scores = classifier.guess_bytes(picture.read_bytes()).scores
    return [scores[label] for label in classifier.labels]


@pytest.fixture
def b64(picture):
    return {"b64": base64.b64encode(picture.read_bytes()).decode()}


def ask(address, path, body=None, **options):
    """Status and JSON of an answer.  A body goes as `curl -d` sends it: under the type of a form."""
    if body is None:
        answer = requests.get(address + path, timeout=60)
    else:
        headers = {"content-type": "application/x-www-form-urlencoded"} | options.pop("headers", {})
        data = body if isinstance(body, bytes) else json.dumps(body)
        answer = requests.post(address + path, data=data, headers=headers, timeout=60)
    return answer.status_code, answer.json()


@pytest.mark.parametrize("path", ["/v1/models/retrain:predict", "/v1/models/retrain/versions/1:predict"])
def test_predict_by_row_and_by_column(address, probabilities, b64, path):
    told = {"probabilities": probabilities, "label": "tree"}
    for instance in (b64, {"image_bytes": b64}, {"any_bytes": b64}):
        assert ask(address, path, {"instances": [instance] * 2}) == (200, {"predictions": [told] * 2})
    for inputs in ([b64], {"image_bytes": [b64]}, b64, {"image_bytes": b64}):
        body = {"signature_name": "serving_default", "inputs": inputs}
        outputs = {"probabilities": [probabilities], "label": ["tree"]}
        assert ask(address, path, body) == (200, {"outputs": outputs})


def test_classify_gives_pairs_best_first(address, classifier, picture, b64):
    status, answer = ask(address, "/v1/models/retrain:classify", {"examples": [{"image": b64}]})
    scores = classifier.guess_bytes(picture.read_bytes()).scores
    assert (status, answer["result"]) == (200, [[[*pair] for pair in scores.items()]])
    assert answer["results"] == answer["result"]


@pytest.mark.parametrize("path", ["/v1/models/retrain", "/v1/models/retrain/versions/1"])
def test_status_is_that_of_tensorflow_serving(address, path):
    state = {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    assert ask(address, path) == (200, {"model_version_status": [state]})


def test_metadata_names_input_output_and_labels(address, classifier):
    _, answer = ask(address, "/v1/models/retrain/metadata")
    assert answer["model_spec"] == {"name": "retrain", "signature_name": "", "version": "1"}
    signature = answer["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert signature["inputs"]["image_bytes"]["dtype"] == "DT_STRING"
    sizes = [each["size"] for each in signature["outputs"]["probabilities"]["tensor_shape"]["dim"]]
    assert sizes == ["-1", str(len(classifier.labels))]
    assert answer["metadata"]["labels"] == classifier.labels


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("/v1/models/other", "Servable not found for request: Latest(other)"),
        ("/v1/models/retrain/versions/7", "Servable not found for request: Specific(retrain, 7)"),
        ("/v1/models/retrain/versions/x/metadata", "Servable not found for request: Specific(retrain, x)"),
    ],
)
def test_other_models_are_not_found(address, path, error):
    assert ask(address, path) == (404, {"error": error})


@pytest.mark.parametrize(
    "body",
    [
        b"{", {}, {"instances": []}, {"instances": [1]}, {"instances": [{"b64": 1}]}, {"instances": [{"b64": "§"}]},
        {"instances": [{"b64": "AAAA"}]}, {"instances": 1}, {"inputs": {"other": []}}, [],
        {"instances": [{"b64": "AAAA"}], "inputs": []}, {"signature_name": "x", "instances": [{"b64": "AAAA"}]},
    ],
)  # fmt: skip
def test_what_cannot_be_predicted_is_an_error(address, body):
    status, answer = ask(address, "/v1/models/retrain:predict", body)
    assert status == 400
    assert answer["error"]


def kserve_input(data, shape=None, **fields):
    return {"name": "image", "shape": shape or [len(data)], "datatype": "BYTES", "data": data} | fields


@pytest.mark.parametrize("path", ["/v2/models/retrain/infer", "/v2/models/retrain/versions/1/infer"])
def test_infer_gives_probabilities_and_label(address, probabilities, b64, path):
    status, answer = ask(address, path, {"id": "7", "inputs": [kserve_input([b64["b64"]] * 2)]})
    assert (status, answer["model_name"], answer["model_version"], answer["id"]) == (200, "retrain", "1", "7")
    scores, label = answer["outputs"]
    assert scores == {
        "name": "probabilities", "datatype": "FP32", "shape": [2, len(probabilities)], "data": probabilities * 2,
    }  # fmt: skip
    assert label == {"name": "label", "datatype": "BYTES", "shape": [2], "data": ["tree", "tree"]}


def test_infer_takes_nested_data_and_gives_the_outputs_asked_for(address, b64):
    body = {"inputs": [kserve_input([[b64["b64"]]], [1, 1])], "outputs": [{"name": "label"}]}
    status, answer = ask(address, "/v2/models/retrain/infer", body)
    assert (status, [output["name"] for output in answer["outputs"]]) == (200, ["label"])
    assert "id" not in answer


def binary(pictures):
    """Body and headers of the binary extension."""
    data = b"".join(struct.pack("<I", len(each)) + each for each in pictures)
    tensor = kserve_input(None, [len(pictures)], parameters={"binary_data_size": len(data)})
    head = json.dumps({"inputs": [tensor]}).encode()
    return head + data, {"Inference-Header-Content-Length": str(len(head))}


def test_infer_takes_pictures_after_the_json(address, probabilities, picture):
    body, headers = binary([picture.read_bytes()] * 2)
    status, answer = ask(address, "/v2/models/retrain/infer", body, headers=headers)
    assert (status, answer["outputs"][0]["data"]) == (200, probabilities * 2)


def test_binary_data_that_does_not_fit_is_an_error(address, picture):
    body, headers = binary([picture.read_bytes()])
    for damaged in (body[:-1], body + b"x"):
        status, answer = ask(address, "/v2/models/retrain/infer", damaged, headers=headers)
        assert (status, "binary_data_size" in answer["error"]) == (400, True)


@pytest.mark.parametrize(
    "body",
    [
        {}, {"inputs": []}, {"inputs": [kserve_input(["§"])]}, {"inputs": [kserve_input(["AAAA"], [2])]},
        {"inputs": [kserve_input([1.0], datatype="FP32")]}, {"inputs": [kserve_input([1])]},
        {"inputs": [kserve_input(["AAAA"])], "outputs": [{"name": "other"}]}, {"inputs": [kserve_input([], [0])]},
        {"inputs": [kserve_input(["AAAA"], [int("9" * 4000)])]}, {"inputs": [kserve_input(["AAAA"], [1] * 9)]},
    ],
)  # fmt: skip
def test_what_cannot_be_inferred_is_an_error(address, body):
    status, answer = ask(address, "/v2/models/retrain/infer", body)
    assert status == 400
    assert 0 < len(answer["error"]) < 2000


def test_kserve_tells_of_server_and_model(address, classifier):
    assert ask(address, "/v2")[1]["name"] == "retrain"
    assert ask(address, "/v2/health/live") == (200, {"live": True})
    assert ask(address, "/v2/health/ready") == (200, {"ready": True})
    assert ask(address, "/v2/models/retrain/ready") == (200, {"name": "retrain", "ready": True})
    status, answer = ask(address, "/v2/models/retrain/versions/1")
    assert (status, answer["versions"], answer["parameters"]["labels"]) == (200, ["1"], classifier.labels)
    assert ask(address, "/v2/models/other")[0] == 404


def test_client_of_triton_works_unchanged(address, probabilities, picture):
    http = pytest.importorskip("tritonclient.http")
    client = http.InferenceServerClient(address.removeprefix("http://"))
    assert client.is_server_live()
    assert client.is_model_ready("retrain")
    entry = http.InferInput("image", [1], "BYTES")
    entry.set_data_from_numpy(np.array([picture.read_bytes()], dtype=object))
    result = client.infer("retrain", [entry])
    np.testing.assert_allclose(result.as_numpy("probabilities")[0], probabilities, rtol=1e-6)
    assert result.as_numpy("label")[0] in ("tree", b"tree")

"""POST /guess: the ways to send pictures, what comes back, and what is wrong with others."""

import base64
import io
import json
import shutil
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import numpy as np
import pytest
import requests
from PIL import Image

from retrain import Classifier, TrainOptions, train
from retrain.options import TrustOptions


@pytest.fixture(scope="module")
def classifier(trained):
    return Classifier.load(trained / "model")


def post(address, path="/guess", **options):
    return requests.post(address + path, timeout=60, **options)


def encoded(path):
    return base64.b64encode(path.read_bytes()).decode()


def expected(classifier, picture):
    return json.loads(json.dumps(classifier.guess_bytes(picture.read_bytes()).scores))


def test_form_json_and_bytes_give_the_guess_of_the_command_line(address, classifier, picture):
    answers = [
        post(address, files={"file": picture.open("rb")}),
        post(address, json={"images": [encoded(picture)]}),
        post(address, json={"images": [f"data:image/jpeg;base64,{encoded(picture)}"]}),
        post(address, data=picture.read_bytes(), headers={"content-type": "image/jpeg"}),
        post(address, data=picture.read_bytes(), headers={"content-type": "application/octet-stream"}),
    ]
    for answer in answers:
        assert answer.status_code == 200
        (guess,) = answer.json()["guesses"]
        assert guess["scores"] == expected(classifier, picture)
        assert guess["label"] == "tree"


def test_several_pictures_keep_their_order_and_names(address, sample):
    paths = sorted(sample.glob("*/*-000.jpg"))
    answer = post(address, files=[("file", (path.name, path.open("rb"))) for path in paths]).json()
    assert [guess["path"] for guess in answer["guesses"]] == [path.name for path in paths]
    assert np.mean([guess["path"].startswith(guess["label"]) for guess in answer["guesses"]]) > 0.8


def test_bad_picture_among_others_is_a_row(address, picture):
    answer = post(address, files=[("file", picture.open("rb")), ("file", ("broken.jpg", b"none"))])
    assert answer.status_code == 200
    good, bad = answer.json()["guesses"]
    assert good["error"] is None
    assert (bad["path"], bad["label"]) == ("broken.jpg", None)
    assert bad["error"].startswith("not_an_image")


def bomb():
    stream = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(stream, "PNG")
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "status", "reason"),
    [
        (lambda picture: b"none", 415, "not_an_image"),
        (lambda picture: picture[: len(picture) // 3], 422, "truncated"),
        (lambda picture: bomb(), 413, "too_large"),
        (lambda picture: b"", 422, "empty"),
    ],
)
def test_only_picture_that_is_none_has_a_status_of_its_own(address, picture, content, status, reason):
    answer = post(address, files={"file": ("a.jpg", content(picture.read_bytes()))})
    assert (answer.status_code, answer.json()["error"].partition(" ")[0]) == (status, reason)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ({"json": {}}, 400),
        ({"json": {"images": []}}, 400),
        ({"json": {"images": ["§"]}}, 400),
        ({"json": {"images": "AAAA"}}, 400),
        ({"data": b"{", "headers": {"content-type": "application/json"}}, 400),
        ({"files": {"other": b"x"}}, 400),
        ({"data": b"x", "headers": {"content-type": "multipart/form-data"}}, 400),
        ({"data": b"x", "headers": {"content-type": "multipart/form-data; boundary=y"}}, 400),
        ({"data": b"x", "headers": {"content-type": "text/plain"}}, 415),
        ({"data": b"x"}, 415),
        ({"json": {"images": ["AAAA"] * 65}}, 413),
        ({"files": [("file", (str(number), b"x")) for number in range(65)]}, 413),
    ],
)
def test_body_that_is_not_understood_is_a_clear_error(address, request_, status):
    answer = post(address, **request_)
    assert answer.status_code == status
    assert answer.json()["error"]


@pytest.mark.parametrize("query", ["top=0", "threshold=2", "coverage=1", "top=x", "explain=maybe"])
def test_option_out_of_range_is_a_clear_error(address, picture, query):
    answer = post(address, f"/guess?{query}", files={"file": picture.open("rb")})
    assert answer.status_code == 422
    assert query.partition("=")[0] in answer.json()["error"]


def test_name_in_a_charset_of_the_clients_choice_fails_nothing(address, picture):
    head = b'--X\r\nContent-Disposition: form-data; name="file"; filename="+2AA-"\r\n\r\n'
    kind = {"content-type": "multipart/form-data; boundary=X; charset=utf-7"}  # half of a character, as that has it
    answer = post(address, data=head + picture.read_bytes() + b"\r\n--X--\r\n", headers=kind)
    assert (answer.status_code, answer.json()["guesses"][0]["path"]) == (200, "?")


@pytest.mark.parametrize("path", ["/guess", "/v1/models/retrain:predict", "/v2/models/retrain/infer"])
def test_more_values_than_any_request_needs_are_not_read(address, path):
    body = b'{"instances": [' + b"{}," * 10_001 + b"{}]}"
    assert post(address, path, data=body, headers={"content-type": "application/json"}).status_code == 413


def test_top_threshold_and_coverage_are_those_of_guess(address, trained, picture):
    answer = post(address, "/guess?top=2&threshold=1&coverage=0.8", files={"file": picture.open("rb")})
    (found,) = answer.json()["guesses"]
    classifier = Classifier.load(trained / "model", TrustOptions(threshold=1.0, coverage=0.8))
    wanted = classifier.guess_bytes(picture.read_bytes())
    assert len(found["scores"]) == 2
    assert (found["unknown"], found["candidates"]) == (True, wanted.candidates)


def test_coverage_that_the_model_cannot_keep_is_said(address, picture):
    answer = post(address, "/guess?coverage=0.999999", files={"file": picture.open("rb")})
    assert answer.status_code == 422
    assert "coverage" in answer.json()["error"]


def test_heat_map_comes_on_request(address, picture):
    answer = post(address, "/guess?explain=1", files=[("file", picture.open("rb")), ("file", b"none")])
    good, bad = (guess["heat_map"] for guess in answer.json()["guesses"])
    image = Image.open(io.BytesIO(base64.b64decode(good.removeprefix("data:image/jpeg;base64,"))))
    assert image.size == Image.open(picture).size
    assert bad is None


def test_labels_that_are_hostile_arrive_as_they_are(start, sample, tmp_path):
    name = '<img src=x onerror="alert(1)">'
    shutil.copytree(sample / "fish", tmp_path / "data" / name)
    shutil.copytree(sample / "tree", tmp_path / "data" / "tree")
    train(tmp_path / "data", TrainOptions(report=False))
    answer = post(start(), files={"file": next((sample / "fish").iterdir()).open("rb")})
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["guesses"][0]["label"] == name


def test_several_labels_a_picture_are_told(start, trained_on_labels, labelled):
    folder, _ = trained_on_labels
    picture = next((labelled / "test").rglob("*.jpg"))
    wanted = Classifier.load(folder / "model").guess_bytes(picture.read_bytes())
    (found,) = post(start(model_dir=folder / "model"), files={"file": picture.open("rb")}).json()["guesses"]
    assert found["labels"] == wanted.labels


def test_without_a_model_it_waits_for_one(start, trained, tmp_path, picture):
    address = start()
    answer = post(address, files={"file": picture.open("rb")})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert requests.get(f"{address}/health", timeout=9).json()["version"] == 0
    assert requests.get(f"{address}/v2/health/ready", timeout=9).status_code == 503
    shutil.copytree(trained / "model", tmp_path / "tf_files" / "model")
    wait_for_version(address, 1)
    assert post(address, files={"file": picture.open("rb")}).status_code == 200


def wait_for_version(address, version):
    for _ in range(600):
        if requests.get(f"{address}/health", timeout=9).json()["version"] >= version:
            return
        time.sleep(0.05)
    pytest.fail(f"version {version} never came")


def test_new_model_takes_over_and_no_request_is_lost(start, model_dir, sample, picture):
    address, statuses, done = start(), [], []

    def ask():
        with requests.Session() as session:
            while not done:
                statuses.append(session.post(f"{address}/guess", files={"file": picture.open("rb")}).status_code)

    with ThreadPoolExecutor(3) as clients:
        for _ in range(3):
            clients.submit(ask)
        train(sample, TrainOptions(only=("fish", "tree"), report=False))
        wait_for_version(address, 2)
        done.append(True)
    assert set(statuses) == {200}
    answer = post(address, files={"file": picture.open("rb")}).json()
    assert answer["version"] == 2
    assert set(answer["guesses"][0]["scores"]) == {"fish", "tree"}


def test_request_that_began_before_a_new_model_is_answered_by_the_old_one(start, model_dir, sample, picture):
    address = start(timeout_s=60)
    body = json.dumps({"instances": [{"b64": encoded(picture)}]}).encode()
    head = "POST /v1/models/retrain:predict HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    parts = urlsplit(address)
    with socket.create_connection((parts.hostname, parts.port), 60) as connection:
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[:-1])
        requests.get(f"{address}/health", timeout=9)  # that one has begun
        train(sample, TrainOptions(only=("fish", "tree"), report=False))
        wait_for_version(address, 2)
        connection.sendall(body[-1:])
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert len(json.loads(answer.partition(b"\r\n\r\n")[2])["predictions"][0]["probabilities"]) > 2


def test_damaged_new_model_leaves_the_old_one(start, model_dir, picture, caplog):
    address = start()
    (model_dir / "head.npz").write_bytes(b"damaged")
    (model_dir / "model.json").touch()
    for _ in range(600):
        if "the new model is not served" in caplog.text:
            break
        time.sleep(0.05)
    assert "the new model is not served" in caplog.text
    assert post(address, files={"file": picture.open("rb")}).status_code == 200


def test_pictures_beyond_what_may_wait_are_sent_away(start, trained, picture):
    address = start(model_dir=trained / "model", max_waiting=1)
    answer = post(address, files=[("file", picture.open("rb"))] * 2)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert post(address, files={"file": picture.open("rb")}).status_code == 200

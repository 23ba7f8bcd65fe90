"""What strangers may send: all that our own description allows, and two thousand requests that nobody should."""

import base64
import io
import json
import random
import re
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests
from PIL import Image

HOSTILE = 2000
TOKEN = "sesame"


@pytest.mark.slow
def test_no_request_that_is_described_fails_the_server(address):
    command = [Path(sys.executable).with_name("schemathesis"), "run", f"{address}/openapi.json", "--no-color"]
    options = ["--checks", "not_a_server_error", "--max-examples", "10", "--seed", "1"]
    run = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout
    assert int(re.search(r"(\d+) generated, \1 passed", run.stdout)[1]) > 300


def encoded(image, kind, **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def pictures(good):
    """Hostile contents of a picture file, and the statuses that may answer each."""
    bomb = encoded(Image.new("1", (20_000, 20_000)), "PNG")
    yield from ((good[:length], {415, 422}) for length in (0, 1, 20, len(good) // 2))
    yield from (
        (content, {415, 422}) for content in (b"\xff\xd8\xff", b"GIF89a", b"<svg onload=alert(1)>", b"%PDF-1.7")
    )
    yield bomb, {413}
    yield good.replace(b"\xff\xda", b"\xff\xdb"), {415, 422}
    yield b"RIFF\xff\xff\xff\xffWEBPVP8 ", {415, 422}


def requests_of(good):
    """Heads and bodies of hostile requests, and the statuses that may answer each."""
    post, auth = "POST /guess HTTP/1.1", {"Authorization": f"Bearer {TOKEN}"}
    for content, statuses in pictures(good):
        yield post, auth | {"Content-Type": "image/jpeg"}, content, statuses
        body = json.dumps({"images": [base64.b64encode(content).decode()]}).encode()
        yield post, auth | {"Content-Type": "application/json"}, body, statuses
        body = json.dumps({"instances": [{"b64": base64.b64encode(content).decode()}]}).encode()
        yield "POST /v1/models/retrain:predict HTTP/1.1", auth, body, {400}
    for kind in ("text/html", "image", "multipart/form-data; boundary=", "application/x-www-form-urlencoded", "\x7f"):
        yield post, auth | {"Content-Type": kind}, b"x" * 99, {400, 415}
    deep, cut = b"[" * 50_000, b'{"images": ["' + b"A" * 99
    for body in (deep, cut, b'{"images": [null]}', b"\xff\xfe", b'{"images": {"a": 1}}'):
        yield post, auth | {"Content-Type": "application/json"}, body, {400}
        yield "POST /v1/models/retrain:classify HTTP/1.1", auth, body, {400}
        yield "POST /v2/models/retrain/infer HTTP/1.1", auth | {"Inference-Header-Content-Length": "7"}, body, {400}
    for name in ("../../etc/passwd", "%2e%2e%2f%2e%2e", "..%5c..", "%00", "a" * 9000):
        for place in ("/v1/models/", "/v2/models/", "/docs/", "/"):
            yield f"GET {place}{name} HTTP/1.1", auth, b"", {404}
    yield "GET /\xe2\x98\x83 HTTP/1.1", auth, b"", {400}
    for query in ("top=-1", "threshold=nan", "threshold=1e999", "coverage=0", "top=" + "9" * 5000, "explain=%00"):
        yield f"POST /guess?{query} HTTP/1.1", auth | {"Content-Type": "image/jpeg"}, good, {422}
    for token in ("", "x", "Bearer", "Bearer \xff", f"Bearer {TOKEN}{TOKEN}", f"bearer{TOKEN}"):
        yield "GET /model HTTP/1.1", {"Authorization": token}, b"", {401}
    for origin in ("null", "https://evil.example", "file://", "http://localhost.evil.example"):
        yield post, auth | {"Origin": origin, "Content-Type": "image/jpeg"}, good, {403}
    yield "GET /model HTTP/1.1", auth | {"X": "x" * 31_000}, b"", {200}
    yield "GET /model HTTP/1.1", auth | {"X": "x" * 33_000}, b"", {431}
    yield "TRACE /model HTTP/1.1", auth, b"", {405}
    yield "DELETE /guess HTTP/1.1", auth, b"", {405}


def status_of(connection, line, headers, body):
    """Of the answer on a connection, and whether that stays open."""
    lines = [line, "Host: localhost", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    connection.sendall("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
    found = b""
    while not (end := found.partition(b"\r\n\r\n"))[1]:
        found += (part := connection.recv(65536))
        assert part, f"no answer to {line[:99]}"
    head = end[0].lower()
    if b"connection: close" in head:
        return int(head.split()[1]), False
    left = int(re.search(rb"content-length: (\d+)", head)[1]) - len(end[2])
    while left > 0:
        left -= len(connection.recv(65536))
    return int(head.split()[1]), True


@pytest.mark.slow
def test_two_thousand_hostile_requests_are_answered_as_they_deserve(start, trained, picture):
    address = start(model_dir=trained / "model", token=TOKEN, rate=1e6)
    place = urlsplit(address).hostname, urlsplit(address).port
    kinds, dice = list(requests_of(picture.read_bytes())), random.Random(0)
    asked = kinds + dice.choices(kinds, k=HOSTILE - len(kinds))
    connection, wrong = socket.create_connection(place, 60), set()
    for line, headers, body, statuses in asked:
        status, is_open = status_of(connection, line, headers, body)
        if status not in statuses:
            wrong.add((line[:99], status, *sorted(statuses)))
        if not is_open:
            connection.close()
            connection = socket.create_connection(place, 60)
    connection.close()
    assert not wrong
    answer = requests.post(
        f"{address}/guess", files={"file": picture.open("rb")}, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=60
    )
    assert answer.json()["guesses"][0]["label"] == "tree"


@pytest.mark.real
def test_no_file_of_strangers_fails_the_server(address, real_data):
    statuses = {}
    for path in sorted((real_data / "messy").iterdir()):
        answer = requests.post(f"{address}/guess", files={"file": path.open("rb")}, timeout=120)
        assert answer.status_code in (200, 413, 415, 422), path.name
        statuses[answer.status_code] = statuses.get(answer.status_code, 0) + 1
        assert ("error" in answer.json()) == (answer.status_code != 200)
    assert statuses[200] > 20
    assert statuses[422] > 20


@pytest.mark.real
def test_server_says_of_each_photo_what_the_command_line_says(start, real_data, tmp_path):
    from retrain import Classifier, TrainOptions, train

    train(real_data / "flowers" / "train", TrainOptions(max_per_class=20, report=False))
    classifier, address = Classifier.load(), start()
    flowers, turned = (sorted((real_data / name).rglob("*.jpg")) for name in ("flowers/test", "exif"))
    for path in flowers[::10] + turned[:10]:
        answer = requests.post(f"{address}/guess", files={"file": path.open("rb")}, timeout=60).json()
        assert answer["guesses"][0]["scores"] == classifier.guess_file(path).scores

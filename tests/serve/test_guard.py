"""Who may ask, how much, how fast and how often; and what is told of each request."""

import json
import logging
import re
import socket
import time
from contextlib import suppress
from urllib.parse import urlsplit

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from retrain.errors import RetrainError
from retrain.options import ServeOptions
from retrain.serve import running
from retrain.serve.guard import JSONFormatter

TOKEN = "open sesame"


@pytest.fixture(scope="module")
def model(trained):
    return trained / "model"


def send(address, content, wait=20):
    """What comes back on a connection on which these bytes go out."""
    parts = urlsplit(address)
    with socket.create_connection((parts.hostname, parts.port), wait) as connection:
        connection.sendall(content)
        found = b""
        while part := connection.recv(65536):
            found += part
            if b"\r\n\r\n" in found and b"content-length" not in found.lower():
                break
            match = re.search(rb"content-length: (\d+)\r\n.*?\r\n\r\n(.*)", found, re.DOTALL | re.IGNORECASE)
            if match and len(match[2]) >= int(match[1]):
                break
        return found


def eventually(find):
    """What find() returns once it is something: of a request it is told when it has been answered."""
    for _ in range(200):
        if found := find():
            return found
        time.sleep(0.05)
    raise AssertionError("it never came")


def get(address, path, **headers):
    return requests.get(address + path, headers=headers, timeout=20)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_other_addresses_need_a_token_or_say_insecure(model, host):
    with pytest.raises(RetrainError, match="can be reached from other machines") as caught:
        running.make_server(ServeOptions(host=host, model_dir=model), print)
    assert "--token" in caught.value.hint
    running.make_server(ServeOptions(host=host, model_dir=model, token=TOKEN), print)
    running.make_server(ServeOptions(host=host, model_dir=model, insecure=True), print)


@pytest.mark.parametrize(
    "path", ["/model", "/metrics", "/v1/models/retrain", "/v2/models/retrain", "/guess", "/nothing"]
)
def test_token_is_needed_for_all_that_tells_something(start, model, path):
    address = start(model_dir=model, token=TOKEN)
    assert get(address, path).status_code == 401
    for wrong in ("Bearer", "Bearer ", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", f"Basic {TOKEN}", "Bearer §"):
        assert get(address, path, Authorization=wrong.encode()).status_code == 401
    assert get(address, path, Authorization=f"Bearer {TOKEN}").status_code != 401


@pytest.mark.parametrize("path", ["/health", "/v2/health/live", "/docs", "/openapi.json", "/docs/swagger-ui.css"])
def test_what_holds_no_secret_is_open(start, model, path):
    assert get(start(model_dir=model, token=TOKEN), path).status_code == 200


def test_names_that_were_made_to_point_here_are_refused(address):
    port = urlsplit(address).port
    for host in ("evil.example", f"evil.example:{port}", "127.0.0.1.evil.example", "", "[::2]"):
        assert get(address, "/model", Host=host).status_code == 403
    for host in ("localhost", "LocalHost", f"localhost:{port}", "127.0.0.1", f"[::1]:{port}"):
        assert get(address, "/model", Host=host).status_code == 200


def test_pages_of_others_may_not_post(address, picture):
    others = "https://evil.example", "null", "http://localhost:1", "http://["
    for origin, status in [*((other, 403) for other in others), (address, 200)]:
        answer = requests.post(
            f"{address}/guess", files={"file": picture.open("rb")}, headers={"Origin": origin}, timeout=20
        )
        assert answer.status_code == status


def test_no_page_may_read_answers_from_elsewhere(address):
    answer = get(address, "/model", Origin="https://evil.example")
    assert not [name for name in answer.headers if name.lower().startswith("access-control")]
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"


def test_each_answer_has_a_strict_policy(address):
    for path in ("/docs", "/model", "/nothing"):
        headers = get(address, path).headers
        assert headers["content-security-policy"].startswith("default-src 'none'")
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"


def test_body_that_is_too_large_is_refused_before_and_while_it_comes(start, model):
    address = start(model_dir=model, max_bytes=1000)
    head = b"POST /guess HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\n"
    assert b" 413 " in send(address, head + b"Content-Length: 1001\r\n\r\n")
    chunk = b"300\r\n" + bytes(0x300) + b"\r\n"
    assert b" 413 " in send(address, head + b"Transfer-Encoding: chunked\r\n\r\n" + 2 * chunk)
    assert get(address, "/health").status_code == 200


def test_bodies_of_all_requests_together_are_limited(start, model, picture):
    address = start(model_dir=model, max_bytes=20_000, max_bytes_together=30_000)
    head = b"POST /guess HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\nContent-Length: 19000\r\n\r\n"
    parts = urlsplit(address)
    with socket.create_connection((parts.hostname, parts.port), 20) as first:
        first.sendall(head + bytes(18_999))
        refused = eventually(lambda: b" 503 " in (found := send(address, head + bytes(19_000))) and found)
        assert b"retry-after: 1" in refused
        first.sendall(b"x")
        assert b" 415 " in first.recv(65536)
    assert b" 415 " in send(address, head + bytes(19_000))  # what the first one held is free again


def test_client_that_goes_is_no_failure_of_the_server(address, caplog):
    caplog.set_level(logging.INFO)
    parts = urlsplit(address)
    head = b"POST /guess HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: gone\r\nContent-Type: image/jpeg\r\n"
    with socket.create_connection((parts.hostname, parts.port), 20) as connection:
        connection.sendall(head + b"Content-Length: 9\r\n\r\nxx")
        get(address, "/health")  # that one has begun
    told = eventually(lambda: [each.told for each in caplog.records if "gone" in getattr(each, "told", {}).values()])
    assert told[0]["status"] == 499
    assert not [each for each in caplog.records if each.exc_info]


def test_connection_whose_answer_is_not_read_is_closed(start, model, monkeypatch, picture):
    monkeypatch.setattr(running, "UNTAKEN_S", 0.3)
    parts = urlsplit(start(model_dir=model, rate=1e6))
    asked = b"GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(20)
        connection.connect((parts.hostname, parts.port))
        with pytest.raises(ConnectionError):
            for _ in range(2000):
                connection.sendall(asked)
                time.sleep(0.01)


def test_connections_beyond_those_that_are_told_so_are_closed(start, model, monkeypatch):
    monkeypatch.setattr(running, "CONNECTIONS", 2)
    monkeypatch.setattr(running, "SPARE", 3)
    parts = urlsplit(start(model_dir=model))
    connections = [socket.create_connection((parts.hostname, parts.port), 20) for _ in range(8)]
    for connection in connections[5:]:
        with suppress(ConnectionError):
            assert connection.recv(1) == b""
    for connection in connections[:5]:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert connections[0].recv(12) == b"HTTP/1.1 503"
    for connection in connections:
        connection.close()


def test_body_that_does_not_come_is_waited_for_no_longer_than_that(start, model):
    address = start(model_dir=model, timeout_s=0.3)
    head = b"POST /guess HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\nContent-Length: 9\r\n\r\nxx"
    assert b" 408 " in send(address, head)


@pytest.mark.parametrize(
    "begun",
    [b"", b"GET /health HTTP/1.1\r\nHost: local", b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\nGET /he"],
)
def test_connection_without_a_whole_request_is_closed(start, model, monkeypatch, begun):
    monkeypatch.setattr(running, "SILENT_S", 0.3)
    parts = urlsplit(start(model_dir=model))
    with socket.create_connection((parts.hostname, parts.port), 20) as connection:
        connection.sendall(begun)
        while connection.recv(65536):
            pass


def test_requests_that_come_too_often_are_told_when_to_come_again(start, model):
    address = start(model_dir=model, rate=3)
    answers = [get(address, "/health") for _ in range(9)]
    assert 429 in {answer.status_code for answer in answers}
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert int(refused.headers["retry-after"]) >= 1
    time.sleep(0.5)
    assert get(address, "/health").status_code == 200


@pytest.mark.parametrize(
    "content",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
        b"POST /guess HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST /guess HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
    ],
)
def test_what_is_no_http_is_refused(address, content):
    assert re.match(rb"HTTP/1.1 4\d\d ", send(address, content))
    assert get(address, "/health").status_code == 200


@pytest.mark.parametrize(
    "path", ["/../../etc/passwd", "/docs/..%2f..%2fapp.py", "/docs/%2e%2e/app.py", "/static/../app.py", "/%00"]
)
def test_no_path_leads_to_files(address, path):
    found = send(address, b"GET " + path.encode() + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert b" 404 " in found
    assert b"root:" not in found
    assert b"import" not in found


def test_head_is_answered_as_get_without_a_body(address):
    answer = requests.head(f"{address}/health", timeout=20)
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-length"] == get(address, "/health").headers["content-length"]


def test_request_id_is_given_or_taken_over(address):
    assert re.fullmatch("[0-9a-f]{32}", get(address, "/health").headers["x-request-id"])
    assert get(address, "/health", **{"X-Request-ID": "mine-1"}).headers["x-request-id"] == "mine-1"
    assert get(address, "/health", **{"X-Request-ID": "a b"}).headers["x-request-id"] != "a b"


def test_log_is_a_line_of_json_a_request(address, caplog):
    caplog.set_level(logging.INFO, "retrain.serve")
    get(address, "/v1/models/x\n?secret=1", **{"X-Request-ID": "mine-2"})
    records = eventually(
        lambda: [each for each in caplog.records if getattr(each, "told", {}).get("request_id") == "mine-2"]
    )
    line = JSONFormatter().format(records[0])
    told = json.loads(line)
    assert "\n" not in line
    assert (told["method"], told["status"], told["client"]) == ("GET", 404, "127.0.0.1")
    assert "secret" not in line


def test_metrics_are_those_that_prometheus_reads(start, model, picture):
    address = start(model_dir=model)
    requests.post(f"{address}/guess", files=[("file", picture.open("rb")), ("file", b"x")], timeout=20)
    get(address, "/nothing/1"), get(address, "/nothing/2")
    requests.request("STRANGE1", f"{address}/nothing", timeout=20)
    requests.request("STRANGE2", f"{address}/nothing", timeout=20)

    def measured():
        families = text_string_to_metric_families(get(address, "/metrics").text)
        samples = [sample for family in families for sample in family.samples]
        found = {(sample.name, *sorted(sample.labels.values())): sample.value for sample in samples}
        return found if found.get(("retrain_requests_total", "404", "GET", "none")) == 2 else None

    found = eventually(measured)  # strangers' paths and methods make no series
    assert found["retrain_requests_total", "404", "none", "other"] == 2
    assert found["retrain_requests_total", "/guess", "200", "POST"] == 1
    assert found["retrain_pictures_total", "failed"] == found["retrain_pictures_total", "guessed"] == 1
    assert found["retrain_model_version",] == 1

"""`retrain serve` as a process."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading

import pytest
import requests

COMMAND = [sys.executable, "-c", "from retrain.cli import main; main()", "serve"]


@pytest.fixture
def run(model_dir):
    """run(*options): the process, and the first line it prints."""
    processes = []

    def run(*options, **environment):
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        process = subprocess.Popen([*COMMAND, *options], env=os.environ | environment, **pipes)
        processes.append(process)
        return process, process.stdout.readline()

    yield run
    for process in processes:
        process.kill()
        process.communicate()


def test_it_tells_its_address_and_stops_when_asked(run, picture):
    process, told = run("--port", "0")
    address = re.match(r"Serving (http://127\.0\.0\.1:\d+)/ ", told)[1]
    assert requests.post(f"{address}/guess", files={"file": picture.open("rb")}, timeout=20).ok
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in errors


def test_request_under_way_is_answered_before_it_stops(run, picture):
    process, told = run("--port", "0")
    port = int(re.search(r":(\d+)/", told)[1])
    data = picture.read_bytes()
    with socket.create_connection(("127.0.0.1", port), 20) as connection:
        head = f"POST /guess HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n"
        connection.sendall(f"{head}\r\n".encode() + data[:100])
        requests.get(f"http://127.0.0.1:{port}/health", timeout=20)  # the first one has begun
        process.send_signal(signal.SIGTERM)
        threading.Event().wait(0.5)
        connection.sendall(data[100:])
        assert connection.recv(100).startswith(b"HTTP/1.1 200")
    process.communicate(timeout=30)
    assert process.returncode == 143


def test_token_of_the_environment_stands_behind_the_hash(run):
    _, told = run("--port", "0", "--host", "0.0.0.0", RETRAIN_TOKEN="sesame")
    address, token = re.match(r"Serving (\S+)/#token=(\S+) ", told).groups()
    assert token == "sesame"
    assert requests.get(f"{address}/model", timeout=20).status_code == 401
    assert requests.get(f"{address}/model", headers={"Authorization": "Bearer sesame"}, timeout=20).ok


def test_token_of_any_characters_is_taken_and_one_of_blanks_is_none(run):
    _, told = run("--port", "0", "--token", " pässword\n")
    address, token = re.match(r"Serving (\S+)/#token=(\S+) ", told).groups()
    assert token == "p%C3%A4ssword"
    assert requests.get(f"{address}/model", headers={"Authorization": "Bearer pässword".encode()}, timeout=20).ok
    process, _ = run("--port", "0", "--host", "0.0.0.0", "--token", " ")
    _, errors = process.communicate(timeout=30)
    assert "there is no token" in errors


def test_port_that_is_taken_is_a_clear_error(run):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        process, _ = run("--port", str(taken.getsockname()[1]))
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "cannot be served" in errors
    assert "Hint: Another program may be there (--port N)" in errors
    assert "Traceback" not in errors


def test_damaged_model_is_a_clear_error(run, model_dir):
    (model_dir / "head.npz").write_bytes(b"damaged")
    process, _ = run("--port", "0")
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert re.match(r"Error: .*head\.npz", errors)

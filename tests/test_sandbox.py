import io
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from retrain import sandbox
from retrain.parallel import cores, ordered_map

# What runs in the other process:


def echo(data, **arguments):
    return arguments | {"process": os.getpid()}, data


def crash(data):
    os.kill(os.getpid(), signal.SIGSEGV)


def leave(data):
    os._exit(7)


def fail(data):
    raise ValueError


def hang_in_c(data):
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


def be_busy(data):
    while True:
        pass


def take_memory(data):
    try:
        bytearray(2 * sandbox.MEMORY_LIMIT)
    except MemoryError:
        return {"refused": True}, b""
    return {"refused": False}, b""


def print_much(data):
    os.write(1, b"x" * 1_000_000)
    print("hello", flush=True)
    return {"read": len(os.read(0, 10))}, b""


def run(function, data=b"", limit_s=60, **arguments):
    return sandbox.run(f"{__name__}:{function.__name__}", data, limit_s, **arguments)


def alive(process):
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for(condition):
    for _ in range(600):
        if condition():
            return
        time.sleep(0.1)
    pytest.fail("it never came about")


def test_answer_holds_what_was_sent():
    data = os.urandom(3_000_000)
    fields, content = run(echo, data, name="é\n")
    assert (fields["name"], content) == ("é\n", data)
    assert fields["process"] != os.getpid()


def test_process_is_kept_for_the_next_call():
    assert run(echo)[0]["process"] == run(echo)[0]["process"]


@pytest.mark.parametrize(
    ("function", "says"), [(crash, "Segmentation fault"), (leave, "exit code 7"), (fail, "exit code 1")]
)
def test_process_that_ends_is_an_error_and_replaced(function, says):
    before = run(echo)[0]["process"]
    with pytest.raises(sandbox.CrashError, match=says):
        run(function, bytes(1_000_000))
    assert run(echo)[0]["process"] != before


@pytest.mark.parametrize(
    "answer",
    [struct.pack(">QQ", 2**60, 0), struct.pack(">QQ", 2, 2**60) + b"{}", struct.pack(">QQ", 2, 0) + b"{]",
     struct.pack(">QQ", 1, 0) + b"1", struct.pack(">QQ", 100_000, 0) + b"[" * 100_000],
    ids=["endless JSON", "endless bytes", "no JSON", "a number", "deep"],
)  # fmt: skip
def test_answer_that_is_none_is_a_crash(answer):
    with pytest.raises(sandbox.CrashError, match="its answer is none"):
        sandbox._receive(io.BytesIO(answer))


@pytest.mark.parametrize("function", [hang_in_c, be_busy])
def test_process_that_takes_too_long_is_ended_and_replaced(function):
    with pytest.raises(sandbox.SlowError, match=r"0\.3 seconds"):
        run(function, limit_s=0.3)
    run(echo)


def test_process_killed_while_idle_is_replaced():
    process = run(echo)[0]["process"]
    os.kill(process, signal.SIGKILL)
    wait_for(lambda: not alive(process))
    assert run(echo, bytes(1_000_000))[0]["process"] != process


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux enforces the limit")
def test_memory_is_limited():
    assert run(take_memory)[0] == {"refused": True}


def test_prints_stay_out_of_the_answer():
    assert run(print_much)[0] == {"read": 0}


def test_many_calls_at_once_share_a_process_a_core():
    answers = [run(echo, b"", number=number)[0] for number in range(3)]
    answers += ordered_map(lambda number: run(echo, bytes(100_000), number=number)[0], range(100))
    assert [answer["number"] for answer in answers] == [*range(3), *range(100)]
    assert len({answer["process"] for answer in answers}) <= cores()


def test_forked_process_starts_its_own():
    before = run(echo)[0]["process"]
    readable, writable = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writable, str(run(echo)[0]["process"]).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert int(os.read(readable, 20)) != before
    assert run(echo)[0]["process"] == before


SCRIPT = f"""
import os, signal, sys, time
sys.path.insert(0, {str(Path(__file__).parent)!r})
from retrain import sandbox
print(sandbox.run("test_sandbox:echo", b"", 60)[0]["process"], flush=True)
"""


@pytest.mark.parametrize(
    "end", ["", "sys.exit(3)", "raise ValueError", "os.kill(os.getpid(), signal.SIGKILL)", "os._exit(1)"]
)
def test_process_ends_with_its_parent(end):
    done = subprocess.run([sys.executable, "-c", SCRIPT + end], capture_output=True, text=True, timeout=60, check=False)
    process = int(done.stdout)
    wait_for(lambda: not alive(process))


def test_interrupt_ends_a_call_at_once():
    code = SCRIPT + "sandbox.run('test_sandbox:be_busy', b'', 1e6)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as parent:
        process = int(parent.stdout.readline())
        time.sleep(0.5)
        parent.send_signal(signal.SIGINT)
        assert b"KeyboardInterrupt" in parent.communicate(timeout=60)[1]
    assert not alive(process)


def test_nothing_is_written_to_disk(tmp_path):
    """In a container that may be written nowhere it works, too."""
    code = SCRIPT.replace(
        "from retrain", "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\nfrom retrain"
    )
    environment = os.environ | {"TMPDIR": str(tmp_path / "missing"), "PYTHONDONTWRITEBYTECODE": "1"}
    subprocess.run([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, timeout=60, check=True)


def test_python_that_cannot_be_started_is_an_os_error(monkeypatch):
    monkeypatch.setattr(sandbox, "_pool", sandbox._Pool())
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(OSError, match="No such file"):
        run(echo)

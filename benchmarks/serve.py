"""The server under load: a closed loop of clients on the same cores, and its memory over 20,000 requests."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.common import RETRAIN, run
from retrain.dataset import find_dataset

PICTURES = 200  # different ones
WARM, ALONE, TOGETHER, LONG = 100, 500, 3000, 20_000  # requests
CONNECTIONS = 16
HEAD = "POST /guess HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/jpeg\r\nContent-Length: {}\r\n\r\n"


def measure(bench):
    model = bench.folder / "model"
    run(RETRAIN, "train", bench.photos, "--no-report", "--model-dir", model)
    requests = [request_of(path) for path in find_dataset(bench.photos).paths[:PICTURES]]
    command = [RETRAIN, "serve", "--port", "0", "--model-dir", str(model)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            port = int(re.search(r":(\d+)/", server.stdout.readline())[1])
            load(port, requests, WARM, CONNECTIONS)
            rows = [
                {"what": f"{connections} connection(s)", **told(*load(port, requests, count, connections))}
                for connections, count in ((1, ALONE), (CONNECTIONS, TOGETHER))
            ]
            before = memory_mb(server.pid)
            load(port, requests, LONG, CONNECTIONS)
            grown = memory_mb(server.pid) - before
        finally:
            server.send_signal(signal.SIGTERM)
    return {"rows": rows, "ratios": {f"MB more after {LONG} requests": grown, "MB": before}}


def request_of(path):
    data = Path(path).read_bytes()
    return HEAD.format(len(data)).encode() + data


def load(port, requests, count, connections):
    """(milliseconds of each request, seconds of all)."""

    async def client(number):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        milliseconds = []
        for each in range(number, count, connections):
            start = time.perf_counter()
            writer.write(requests[each % len(requests)])
            await answer(reader)
            milliseconds.append(1000 * (time.perf_counter() - start))
        writer.close()
        return milliseconds

    async def clients():
        return await asyncio.gather(*map(client, range(connections)))

    start = time.perf_counter()
    found = asyncio.run(clients())
    return np.concatenate(found), time.perf_counter() - start


async def answer(reader):
    head = await reader.readuntil(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(head.decode())
    await reader.readexactly(int(re.search(rb"content-length: (\d+)", head)[1]))


def told(milliseconds, seconds):
    percentiles = {f"p{percent} ms": round(float(np.percentile(milliseconds, percent)), 1) for percent in (50, 99)}
    return {"guesses/s": round(len(milliseconds) / seconds)} | percentiles


def memory_mb(pid):
    """Resident memory of a process."""
    if not sys.platform.startswith("linux"):
        return float("nan")
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20)

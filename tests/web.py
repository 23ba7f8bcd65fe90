"""Servers that answer as the real ones do, on this machine."""

import json
import threading
import time
from collections import deque
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple
from urllib.parse import parse_qsl, urlsplit


class Asked(NamedTuple):
    """A request as the server saw it."""

    at: float
    path: str
    params: dict
    headers: dict
    many: int  # under way, this one among them
    form: dict  # what was posted


class Server(ThreadingHTTPServer):
    """Answers by `routes`: {path: function(handler, asked)}, "" for all other paths; keeps what it was `asked`.

    rate: (number, seconds), more of which get 429 and a true Retry-After.
    """

    daemon_threads = True

    def __init__(self, routes, rate=None):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.routes, self.rate, self.asked, self.refused = routes, rate, [], []
        self.lock, self.many, self._times = threading.Lock(), 0, deque()
        self.url = f"http://127.0.0.1:{self.server_port}"

    def refuse(self, now):
        """Seconds after which to come again, or 0."""
        if not self.rate:
            return 0
        number, seconds = self.rate
        with self.lock:
            while self._times and self._times[0] <= now - seconds:
                self._times.popleft()
            if len(self._times) >= number:
                self.refused.append(now)
                return int(self._times[0] + seconds - now) + 1
            self._times.append(now)
            return 0

    def paths(self, prefix=""):
        return [asked.path for asked in self.asked if asked.path.startswith(prefix)]

    def handle_error(self, request, client_address):
        pass  # clients of these tests hang up


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # as real servers do: else each body waits for 40 ms

    def do_POST(self):
        self.serve(dict(parse_qsl(self.rfile.read(int(self.headers["Content-Length"])).decode())))

    def do_GET(self):
        self.serve({})

    def serve(self, form):
        parts, server = urlsplit(self.path), self.server
        with server.lock:
            server.many += 1
            headers = {name.lower(): value for name, value in self.headers.items()}
            asked = Asked(time.time(), parts.path, dict(parse_qsl(parts.query)), headers, server.many, form)
            server.asked.append(asked)
        try:
            wait = server.refuse(asked.at)
            if wait:
                text = f"Request was throttled. Expected available in {wait} seconds."
                self.answer({"detail": text}, 429, {"Retry-After": wait})
            else:
                server.routes.get(parts.path, server.routes.get("", _not_found))(self, asked)
        finally:
            with server.lock:
                server.many -= 1

    def answer(self, body, status=200, headers=(), cut=0):
        """Send bytes, text or JSON; `cut`: so many bytes less than announced."""
        kind = "image/jpeg" if isinstance(body, bytes) else "text/html" if isinstance(body, str) else "application/json"
        if not isinstance(body, bytes):
            body = (body if isinstance(body, str) else json.dumps(body)).encode()
        self.send_response(status)
        for name, value in ({"Content-Type": kind, "Content-Length": len(body)} | dict(headers)).items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(body[: len(body) - cut])
        if cut:
            self.close_connection = True

    def log_message(self, *_):
        pass


def _not_found(handler, _asked):
    handler.answer({"detail": "Not found."}, 404)


@contextmanager
def running(server):
    """The server, answering as long as this lasts."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def serving(routes, rate=None):
    return running(Server(routes, rate))

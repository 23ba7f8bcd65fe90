"""The guard before the server: who may ask, how much, how fast and how often; and what is told of each request."""

import asyncio
import hmac
import json
import logging
import os
import re
import time
import uuid
from collections import OrderedDict

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.exceptions import HTTPException

LOOPBACK = {"127.0.0.1", "localhost", "::1"}
MAX_HEADER_BYTES = 32_000
REMEMBERED = 10_000  # addresses whose rate is known
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"}  # others are one in the metrics
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
# What holds no secrets, or has one of its own.
OPEN = re.compile(r"/|/health|/v2/health/(live|ready)|/(docs|static)(/[a-z.-]+)?|/openapi\.json|/studio/report/[^/]+")
HEADERS = [
    (b"content-security-policy", b"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
     b"img-src 'self' data: blob:; media-src 'self' blob:; base-uri 'none'; form-action 'none'; "
     b"frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer"), (b"cache-control", b"no-store"),
    (b"cross-origin-opener-policy", b"same-origin"), (b"cross-origin-resource-policy", b"same-origin"),
]  # fmt: skip

log = logging.getLogger("retrain.serve")


class Metrics:
    """What Prometheus is told."""

    def __init__(self):
        self.registry = CollectorRegistry()
        labels = "method", "route", "status"
        self.requests = Counter("retrain_requests", "Requests answered", labels, registry=self.registry)
        self.seconds = Histogram("retrain_request_seconds", "Seconds to an answer", ["route"], registry=self.registry)
        self.pictures = Counter("retrain_pictures", "Pictures guessed", ["outcome"], registry=self.registry)
        self.waiting = Gauge("retrain_pictures_waiting", "Pictures that wait for a thread", registry=self.registry)
        self.version = Gauge("retrain_model_version", "Version of the model; 0: none", registry=self.registry)


class Guard:
    """ASGI application around another one."""

    def __init__(self, app, options, metrics):
        """options: ServeOptions."""
        self.app, self.options, self.metrics = app, options, metrics
        self._rates, self._bodies = _Rates(options.rate), _Bodies(options.max_bytes_together)
        self._token = options.token and os.fsencode(options.token)

    async def __call__(self, scope, receive, send):
        if scope["type"] == "http":
            await self._answer(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self.app(scope, receive, send)

    async def _answer(self, scope, receive, send):
        start, headers = time.perf_counter(), {name.lower(): value for name, value in scope["headers"]}
        given = headers.get(b"x-request-id", b"").decode("latin-1")
        number = given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        method, status = scope["method"], 500
        scope = scope | {"state": scope.get("state", {}) | {"request_id": number}}
        if method == "HEAD":  # as GET; its body is left out by whoever sends it
            scope["method"] = "GET"

        async def answer(message):
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                own = message.get("headers", [])
                named = {name for name, _ in own}
                missing = [(name, value) for name, value in HEADERS if name not in named]
                message["headers"] = [*own, *missing, (b"x-request-id", number.encode())]
            await send(message)

        body = _Limited(receive, self.options, self._bodies)
        try:
            refusal = self._refusal(scope, headers)
            if refusal:
                await _refuse(answer, *refusal)
            else:
                await self.app(scope, body, answer)
        finally:
            self._bodies.held -= body.held
            self._tell(scope, method, status, time.perf_counter() - start)

    def _refusal(self, scope, headers):
        """(status, error) where a request is not let in, None where it is."""
        host = headers.get(b"host", b"").decode("latin-1").lower()
        origin = headers.get(b"origin", b"").decode("latin-1").lower()
        wait = self._rates.wait((scope.get("client") or [""])[0])
        if wait:
            return 429, "too many requests; wait a little.", wait
        # Names that lead here without our doing: a page elsewhere has had its own name point to this machine.
        if not self._token and not self.options.insecure and _name(host) not in LOOPBACK:
            return 403, f"{host!r} is not the name of this server."
        if origin and scope["method"] != "GET" and origin.partition("://")[2] != host:
            return 403, f"pages of {origin!r} may not ask this server."
        if self._token and not OPEN.fullmatch(scope["path"]) and not self._is_allowed(headers):
            return 401, "a token is needed: Authorization: Bearer TOKEN."
        if sum(len(name) + len(value) for name, value in scope["headers"]) > MAX_HEADER_BYTES:
            return 431, "the headers are too large."
        length = headers.get(b"content-length", b"0")
        if not length.isdigit():
            return 400, "the content length is no number."
        if int(length) > self.options.max_bytes:
            return 413, _too_large(self.options)
        return None

    def _is_allowed(self, headers):
        scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
        return scheme.lower() == b"bearer" and hmac.compare_digest(token.strip(), self._token)

    def _tell(self, scope, method, status, seconds):
        route = getattr(scope.get("route"), "path", "none")
        self.metrics.requests.labels(method if method in METHODS else "other", route, status).inc()
        self.metrics.seconds.labels(route).observe(seconds)
        log.info(
            "request", extra={"told": {
                "request_id": scope["state"]["request_id"], "method": method, "path": scope["path"], "status": status,
                "ms": round(1000 * seconds, 1), "client": (scope.get("client") or [None])[0],
            }},
        )  # fmt: skip


class _Bodies:
    """The bytes that the bodies of all requests under way hold, and how many these may be."""

    def __init__(self, most):
        self.held, self._most = 0, most

    def has_room(self, count):
        return self.held + count <= self._most


class _Limited:
    """Receives the body of a request, of so many bytes and in so many seconds."""

    def __init__(self, receive, options, bodies):
        self._receive, self._options, self._bodies = receive, options, bodies
        self.held, self._deadline, self._whole = 0, time.monotonic() + options.timeout_s, False

    async def __call__(self):
        if self._whole:
            return await self._receive()  # waits for the client to go
        try:
            async with asyncio.timeout(max(0, self._deadline - time.monotonic())):
                message = await self._receive()
        except TimeoutError:
            raise HTTPException(408, f"the request did not arrive in {self._options.timeout_s:g} s.") from None
        if message["type"] == "http.disconnect":
            raise HTTPException(499, "the client went away.")  # the status that nginx has for it
        count = len(message.get("body", b""))
        if self.held + count > self._options.max_bytes:
            raise HTTPException(413, _too_large(self._options), {"connection": "close"})
        if not self._bodies.has_room(count):
            raise HTTPException(
                503, "the requests under way are too large together.", {"connection": "close", "retry-after": "1"}
            )
        self.held += count
        self._bodies.held += count
        self._whole = not message.get("more_body", False)
        return message


class _Rates:
    """How often each address asks: a bucket of a second's requests, filled all the time."""

    def __init__(self, rate):
        self._rate, self._buckets = rate, OrderedDict()

    def wait(self, address):
        """Seconds until the next request of an address may come; 0 counts this one."""
        now = time.monotonic()
        full, seen = self._buckets.pop(address, (self._rate, now))
        full = min(self._rate, full + (now - seen) * self._rate)
        allowed = full >= 1
        self._buckets[address] = full - allowed, now
        if len(self._buckets) > REMEMBERED:
            self._buckets.popitem(last=False)
        return 0 if allowed else (1 - full) / self._rate


class JSONFormatter(logging.Formatter):
    """A log record as a line of JSON."""

    def format(self, record):
        told = {"time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"), "level": record.levelname.lower()}
        told |= getattr(record, "told", None) or {"message": record.getMessage()}
        if record.exc_info:
            told["traceback"] = self.formatException(record.exc_info)
        return json.dumps(told)


def _name(host):
    """Of a Host header: without its port."""
    return host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]


def _too_large(options):
    return f"the request is larger than {options.max_bytes / 1e6:g} MB."


async def _refuse(send, status, error, wait=None):
    body = json.dumps({"error": error}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    # What the client is still sending is not read.
    headers.append((b"connection", b"close"))
    if wait:
        headers.append((b"retry-after", str(max(1, round(wait))).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})

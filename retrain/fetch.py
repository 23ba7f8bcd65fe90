"""The guarded HTTP client: what strangers' addresses and servers can do to us, and what we may do to them.

It reaches http(s) on the public internet alone.  A host's addresses are checked and the connection is made to the very
one that was checked, so a name that changes its mind (DNS rebinding) leads nowhere; a redirect is a new address like
any other.  Proxies, cookies and passwords of the environment are not taken: a proxy would look names up by itself.
Bytes and times are bounded.  Quotas, pauses asked for and connections under way are kept across processes.
"""

import fcntl
import hashlib
import ipaddress
import json
import logging
import os
import random
import re
import socket
import sqlite3
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack, closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urljoin, urlsplit

import requests
import urllib3
from platformdirs import user_cache_path
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.util.connection import create_connection

import retrain
from retrain.errors import RetrainError
from retrain.options import FetchOptions

ABOUT = "a tool with which people teach an image classifier their own categories"  # until the project has an address
CONNECTIONS = 2  # to a host at a time, of all processes together
MAX_REDIRECTS = 5
CHUNK = 1 << 16  # bytes
DAY_S = 86_400
PORTS = {"http": 80, "https": 443}
REDIRECTS = 301, 302, 303, 307, 308
BUSY = 429, 500, 502, 503, 504
OPT_OUT = {"noai", "noimageai"}  # of X-Robots-Tag: not to be learned from
NAT64 = ipaddress.ip_network("64:ff9b::/96")  # RFC 6052: the whole IPv4 internet, as seen from IPv6 alone

ANONYMOUS = "anonymous"
REASONS = {
    "refused_address": "it does not lie on the public internet",
    "refused_scheme": "only http and https are fetched",
    "unreachable": "the host cannot be reached",
    "broken_off": "the answer broke off",
    "too_slow": "the answer took too long",
    "too_large": "more bytes than allowed",
    "too_many_redirects": f"more than {MAX_REDIRECTS} redirects",
    "status": "the server answered with an error",
    "busy": "the server is busy, or we asked too often",
    "quota": "what the host allows is used up",
    "opted_out": "the server asks not to learn from it (X-Robots-Tag)",
    "refused_key": "the host does not take the key",
    ANONYMOUS: "the host wants to know whom to write to: set RETRAIN_CONTACT=you@example.org",
    "malformed": "the server did not answer in the agreed form",
}
AGAIN = "broken_off", "too_slow"  # may go better the next time

# Its warnings hold addresses, and these hold keys.
logging.getLogger("urllib3").setLevel(logging.ERROR)

_running = threading.local()


class FetchError(RetrainError):
    """Something that was not fetched.  reason: a key of REASONS; reply: the answer, where there was one."""

    def __init__(self, reason, url, detail="", reply=None):
        super().__init__(f"{plain(url)}: {detail or REASONS[reason]}.", "Run the same command again later.")
        self.reason, self.detail, self.reply = reason, detail or REASONS[reason], reply


@dataclass(frozen=True)
class Reply:
    """An answer.  url: where it came from, after redirects."""

    url: str
    status: int
    headers: Mapping[str, str]  # whatever the case
    body: bytes

    def json(self):
        """What its JSON says, an object.  Raises FetchError."""
        with suppress(ValueError, RecursionError):
            value = json.loads(self.body)
            if isinstance(value, dict):
                return value
        raise FetchError("malformed", self.url, "the server did not answer with JSON", self)


class _Request(NamedTuple):
    url: str
    headers: Mapping[str, str]
    form: Mapping[str, str] | None = None  # what is posted; None: nothing is


class Client:
    """Fetches; may be used by several threads.

    Each host gets no more requests than its rates allow: (number, seconds) pairs, all of which hold.
    """

    def __init__(self, options=None, folder=None):
        """folder: where rates are kept, by default in the user's cache."""
        self.options = options or FetchOptions()
        self._limiter = _Limiter(folder or user_cache_path("retrain", appauthor=False) / "hosts", self.options)
        self._rates: dict[str, tuple] = {}
        self._private: set[str] = set()
        self._attempts: set[_Attempt] = set()
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.verify = os.environ.get("REQUESTS_CA_BUNDLE") or True
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self._session.headers.update({"User-Agent": user_agent(), "Accept-Encoding": "identity"})
        for scheme in PORTS:
            self._session.mount(f"{scheme}://", _Adapter(pool_maxsize=CONNECTIONS))

    def close(self):
        """Cut what other threads are fetching, or waiting to fetch: it raises FetchError there."""
        self._limiter.closed.set()
        for attempt in list(self._attempts):
            attempt.end()
        self._session.close()

    def allow(self, url):
        """Let that host and port be reached wherever they lie: the user has named them."""
        self._private.add(host_of(url))

    def limit(self, url, rates):
        """Ask that host no more often than the rates allow."""
        self._rates[host_of(url)] = rates

    def get(self, url, params=None, headers=None, *, tries=None, is_busy=None, keep=None):
        """The Reply with status 200.

        headers go to the first host alone.  is_busy(reply): whether an answer of status 200 says "later".
        keep(length): for what is to be learned from, which servers may refuse: a file that takes the bytes as they
        come, `length` of them; None where that is not told.  Raises FetchError; RetrainError where the file takes none.
        """
        headers, first = headers or {}, _full(url, params)
        url = first
        for _ in range(MAX_REDIRECTS + 1):
            reply = self._ask(_Request(url, headers), tries, is_busy, keep)
            if keep and opts_out(reply.headers):
                raise FetchError("opted_out", url)
            target = reply.headers.get("location")
            if reply.status not in REDIRECTS or not target:
                break
            try:
                target = urljoin(url, target)
                if host_of(target) != host_of(url):
                    headers = {}
            except ValueError:
                raise FetchError("status", url, "the redirect leads nowhere", reply) from None
            url = target
        else:
            raise FetchError("too_many_redirects", first)
        return _require_ok(reply)

    def post(self, url, form):
        """The Reply with status 200 to a form.  It may hold secrets: no redirect is followed.  Raises FetchError."""
        return _require_ok(self._ask(_Request(_full(url), {}, form)))

    def _ask(self, request, tries=None, is_busy=None, keep=None):
        url, host, tries = request.url, host_of(request.url), tries or self.options.tries
        rates = self._rates.get(host, self.options.rates)
        for number in range(1, tries + 1):
            # With jitter, so that many clients do not come back all at once.
            pause = self.options.pause_s * 2 ** (number - 1) * random.uniform(0.5, 1)
            try:
                with self._limiter.turn(host, rates):
                    reply = self._once(request, keep)
            except FetchError as error:
                if error.reason not in AGAIN or number == tries or self._limiter.closed.is_set():
                    raise
            else:
                if reply.status not in BUSY and not (reply.status == requests.codes.ok and is_busy and is_busy(reply)):
                    return reply
                asked = retry_after(reply.headers)
                pause = pause if asked is None else asked
            self._limiter.rest(host, pause)
        raise FetchError("busy", url, f"{REASONS['busy']} (status {reply.status})", reply)

    def _once(self, request, keep):
        url, headers, form = request
        with _Attempt(url, self._private, self.options.total_s) as attempt:
            self._attempts.add(attempt)
            try:
                times = self.options.connect_s, self.options.read_s
                method = "GET" if form is None else "POST"
                response = self._session.request(
                    method, url, data=form, headers=headers, allow_redirects=False, stream=True, timeout=times
                )
                wanted = keep and response.status_code == requests.codes.ok and not opts_out(response.headers)
                with closing(response), _opened(keep, response) if wanted else nullcontext() as file:
                    body = b"" if response.is_redirect else _read(response, url, self.options.max_bytes, file)
                if attempt.over:  # a cut looks like the end, to those who wait for the end
                    raise FetchError("too_slow", url)
                return Reply(url, response.status_code, response.headers, body)
            # Their texts hold the whole address, and that may hold a key: only the kind is passed on.
            except ValueError:
                raise attempt.error("unreachable", "this is no address") from None
            except requests.exceptions.SSLError:
                raise attempt.error("unreachable", "its certificate does not hold") from None
            except (requests.Timeout, urllib3.exceptions.TimeoutError):
                raise attempt.error("too_slow") from None
            except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
                raise attempt.error("broken_off", f"the answer broke off ({type(error).__name__})") from None
            finally:
                self._attempts.discard(attempt)


def contact():
    """Whom hosts may write to, as the user says; empty where he says nothing that fits a header."""
    given = os.environ.get("RETRAIN_CONTACT", "")
    return given if given.isascii() and given.isprintable() else ""


def user_agent():
    """Who we are, and whom to write to: `RETRAIN_CONTACT`, an address of the user's, goes with it."""
    about = f"{ABOUT}; {contact()}" if contact() else ABOUT
    return f"retrain/{retrain.__version__} ({about}) python-requests/{requests.__version__}"


def plain(url):
    """An address as it may be shown: without user, password, query and fragment, which may hold keys."""
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
        return f"{parts.scheme}://{host}{parts.path}" if host else "an address without a host"
    except ValueError:
        return "an address that is none"


def host_of(url):
    """`host:port` of an address, in lower case.  Raises ValueError."""
    parts = urlsplit(url)
    return f"{parts.hostname or ''}:{parts.port or PORTS.get(parts.scheme, 0)}"


def is_public(address):
    """Whether an IP address, as text, lies on the public internet, and so does what is wrapped in it."""
    address = ipaddress.ip_address(address)
    if address.version == 6:
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo and address.teredo[1])
        if address in NAT64:
            inner = ipaddress.ip_address(int(address) & 0xFFFFFFFF)
        if inner:
            return is_public(str(inner))
    return address.is_global and not (address.is_multicast or address.is_reserved)


def retry_after(headers):
    """Seconds that Retry-After asks for, written as such or as a date; None where it asks for nothing."""
    text = headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d{1,9}", text):
        return int(text)
    try:
        until = parsedate_to_datetime(text)
        # By the server's own clock, where it tells that.
        now = parsedate_to_datetime(headers["date"]) if headers.get("date") else datetime.now(until.tzinfo)
        return max(0, (until - now).total_seconds())
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def opts_out(headers):
    """Whether X-Robots-Tag says noai or noimageai, to whichever robot."""
    words = re.split(r"[,:\s]+", headers.get("x-robots-tag", "").lower())
    return not OPT_OUT.isdisjoint(words)


def _require_ok(reply):
    if reply.status != requests.codes.ok:
        raise FetchError("status", reply.url, f"the server answered with status {reply.status}", reply)
    return reply


def _full(url, params=None):
    try:
        parts = urlsplit(url)
        host_of(url)
    except ValueError:
        raise FetchError("unreachable", url, "this is no address") from None
    if parts.scheme not in PORTS:
        raise FetchError("refused_scheme", url)
    if not params:
        return url
    return str(requests.Request("GET", url, params=params).prepare().url)


def _opened(keep, response):
    with _disk():
        return keep(response.raw.length_remaining)


@contextmanager
def _disk():
    """What goes wrong with the disk is not to be taken for the network's."""
    try:
        yield
    except OSError as error:
        raise RetrainError(
            f"what is fetched cannot be kept: {error.strerror}.", "Make room, and run the same command again."
        ) from error


def _read(response, url, max_bytes, file):
    if response.headers.get("content-encoding", "identity") != "identity":
        raise FetchError("broken_off", url, "it comes compressed, which was not asked for")
    body = bytearray()
    for chunk in response.raw.stream(CHUNK, decode_content=False):
        if file:
            with _disk():
                file.write(chunk)
                file.flush()
        body += chunk
        if len(body) > max_bytes:
            raise FetchError("too_large", url, f"more than {max_bytes / 1e6:.0f} MB")
    return bytes(body)


class _Attempt:
    """One request under way in this thread.  When its time is over, the connection is cut, whatever it waits for."""

    def __init__(self, url, private, total_s):
        self.url, self.private = url, private
        self._timer = threading.Timer(total_s, self.end)
        self._timer.daemon = True
        self._lock = threading.Lock()
        self._handle, self.over = None, False

    def __enter__(self):
        if urlsplit(self.url).scheme not in PORTS:  # a redirect can lead anywhere
            raise FetchError("refused_scheme", self.url)
        _running.attempt = self
        self._timer.start()
        return self

    def __exit__(self, *_):
        self._timer.cancel()
        _running.attempt = None
        with self._lock:
            self._handle = None

    def watch(self, handle):
        with self._lock:
            self._handle = handle
            if self.over:
                _cut(handle)

    def error(self, reason, detail=""):
        return FetchError("too_slow", self.url) if self.over else FetchError(reason, self.url, detail)

    def end(self):
        with self._lock:
            self.over = True
            if self._handle:
                _cut(self._handle)

    def addresses(self, host, port):
        """Addresses of a host, all of them checked.  Raises FetchError."""
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            raise FetchError("unreachable", self.url, f"there is no host {host}, or no network") from None
        addresses = list(dict.fromkeys(str(place[0]) for *_, place in found))
        if f"{host.lower()}:{port}" not in self.private and not all(map(is_public, addresses)):
            raise FetchError("refused_address", self.url)
        return addresses


def _cut(handle):
    with suppress(OSError):
        handle.shutdown(socket.SHUT_RDWR)


class _Connection(HTTPConnection):
    """A connection to an address that was checked; names in the Host header and the certificate stay the host's."""

    _handle: socket.socket | None = None

    def _new_conn(self):
        attempt, failure = _running.attempt, ""
        for address in attempt.addresses(self.host.strip("[]").rstrip("."), self.port):
            try:
                place = address, self.port
                sock = create_connection(place, self.timeout, self.source_address, self.socket_options)
            except OSError as error:
                failure = error.strerror or "it does not answer"
                continue
            # A second handle on the same connection: TLS takes the first one away.
            self._handle = sock.dup()
            attempt.watch(self._handle)
            return sock
        raise FetchError("unreachable", attempt.url, f"the host cannot be reached ({failure})")

    def connect(self):
        self._close_handle()
        super().connect()

    def request(self, *args, **kwargs):
        if self._handle:
            _running.attempt.watch(self._handle)
        return super().request(*args, **kwargs)

    def close(self):
        super().close()
        self._close_handle()

    def _close_handle(self):
        handle, self._handle = self._handle, None
        if handle:
            handle.close()


class _TlsConnection(_Connection, HTTPSConnection):
    pass


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Connection  # type: ignore[assignment]  # as urllib3's own


class _TlsPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _TlsConnection  # type: ignore[assignment]


class _Adapter(requests.adapters.HTTPAdapter):
    def init_poolmanager(self, *args, **kwargs):
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}


class _Limiter:
    """Who may be asked when, by all processes of this user together."""

    def __init__(self, folder, options):
        self._folder, self._max_wait_s = Path(folder), options.max_wait_s
        self.closed = threading.Event()
        with self._plain_errors():
            self._folder.mkdir(parents=True, exist_ok=True)
            with self._changing() as database:
                database.execute("CREATE TABLE IF NOT EXISTS requests (host TEXT, at REAL)")
                database.execute("CREATE INDEX IF NOT EXISTS by_host ON requests (host, at)")
                database.execute("CREATE TABLE IF NOT EXISTS rests (host TEXT PRIMARY KEY, until REAL)")

    @contextmanager
    def turn(self, host, rates):
        """Wait for this host's turn, and hold one of its connections.  Raises FetchError where that takes too long."""
        with self._connection(host):
            row = self._wait(host, rates)
            try:
                yield
            finally:
                # The server counts from when the request came, which is not later than now.
                with self._plain_errors(), self._changing() as database:
                    database.execute("UPDATE requests SET at = ? WHERE rowid = ?", (time.time(), row))

    def rest(self, host, seconds):
        """Leave a host alone for so long."""
        with self._plain_errors(), self._changing() as database:
            database.execute(
                "INSERT INTO rests VALUES (?, ?) ON CONFLICT DO UPDATE SET until = max(until, excluded.until)",
                (host, time.time() + seconds),
            )

    def _wait(self, host, rates):
        """Wait, and take the turn.  Returns the request's row."""
        while True:
            if self.closed.is_set():
                raise FetchError("broken_off", f"http://{host}", "it is not wanted any more")
            with self._plain_errors(), self._changing() as database:
                wait = self._free_at(database, host, rates) - time.time()
                if wait <= 0:
                    return database.execute("INSERT INTO requests VALUES (?, ?)", (host, time.time())).lastrowid
            if wait > self._max_wait_s:
                free = datetime.fromtimestamp(time.time() + wait).strftime("%Y-%m-%d %H:%M")
                raise FetchError("quota", f"http://{host}", f"it is to be left alone until {free}")
            self.closed.wait(wait)

    def _free_at(self, database, host, rates):
        """The time from when on nothing speaks against a request."""
        now = time.time()
        # None can lie in the future, unless the clock was set back.
        database.execute("DELETE FROM requests WHERE at NOT BETWEEN ? AND ?", (now - DAY_S, now + 1))
        free = [until for (until,) in database.execute("SELECT until FROM rests WHERE host = ?", (host,))]
        for number, seconds in rates:
            rows = "SELECT at FROM requests WHERE host = ? ORDER BY at DESC LIMIT 1 OFFSET ?"
            free += [at + seconds for (at,) in database.execute(rows, (host, number - 1))]
        return max(free, default=0)

    @contextmanager
    def _connection(self, host):
        """One of the connections to a host.  The lock ends with this process, however that ends."""
        name = hashlib.sha256(host.encode()).hexdigest()[:16]
        paths = [self._folder / f"{name}.{number}.lock" for number in range(CONNECTIONS)]
        random.shuffle(paths)
        with ExitStack() as stack:
            for path, mode in [(path, fcntl.LOCK_EX | fcntl.LOCK_NB) for path in paths] + [(paths[0], fcntl.LOCK_EX)]:
                with self._plain_errors():
                    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
                stack.callback(os.close, handle)
                with suppress(BlockingIOError):
                    fcntl.flock(handle, mode)
                    break
            yield

    @contextmanager
    def _changing(self):
        with closing(sqlite3.connect(self._folder / "requests.sqlite", timeout=60, isolation_level=None)) as database:
            database.execute("PRAGMA synchronous = OFF")  # what a power cut takes away is of no worth then
            database.execute("BEGIN IMMEDIATE")
            yield database
            database.execute("COMMIT")

    @contextmanager
    def _plain_errors(self):
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            hint = f"Make {self._folder} a folder that you may write to, or delete it."
            raise RetrainError(f"the hosts' quotas cannot be kept in {self._folder}: {error}.", hint) from error

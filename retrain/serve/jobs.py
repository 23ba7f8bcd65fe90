"""Long work of the server: one at a time, in a thread, told to all who listen while it goes on."""

import asyncio
import contextlib
import itertools
import logging
import threading
import time
from dataclasses import asdict, dataclass, field
from typing import Any

from retrain import progress
from retrain.errors import RetrainError

TELL_EVERY_S = 0.1
END = {"event": "end"}  # the server stops
WAITING = 100  # events that a listener may be behind

log = logging.getLogger("retrain.serve")


class OccupiedError(RetrainError):
    """Another job runs."""

    def __init__(self, job):
        super().__init__(f"another job runs: {job.kind}.", "Wait for its end, or stop it.")


class _StoppedError(BaseException):
    """Unwinds the work as Ctrl-C does, past all that catches errors."""


@dataclass
class Job:
    """One piece of work, and how far it is."""

    id: int
    kind: str  # train | suspects | sort | export
    state: str = "running"  # | done | failed | stopped
    stage: str = ""
    done: int = 0
    total: int = 0
    seconds: float = 0.0
    result: Any = None
    error: str | None = None
    start: float = field(default_factory=time.monotonic, repr=False)

    def as_dict(self):
        """For JSON."""
        told = asdict(self)
        seconds = time.monotonic() - told.pop("start") if self.state == "running" else self.seconds
        return told | {"seconds": round(seconds, 1)}


class Jobs:
    """Starts work, and tells of it."""

    def __init__(self):
        self.last: Job | None = None
        self._numbers, self._lock = itertools.count(1), threading.Lock()
        self._listeners: dict[asyncio.Queue, asyncio.AbstractEventLoop] = {}
        self._stopping, self._told = threading.Event(), 0.0
        self._thread: threading.Thread | None = None

    def start(self, kind, work):
        """Run work() in a thread; its result goes into the Job that is returned.  Raises OccupiedError."""
        with self._lock:
            if self.last and self.last.state == "running":
                raise OccupiedError(self.last)
            self._stopping.clear()
            job = self.last = Job(next(self._numbers), kind)
        self._thread = threading.Thread(target=self._run, args=(job, work), name=f"job {job.id}", daemon=True)
        self._thread.start()
        return job

    def stop(self):
        """Ask the job that runs to end; it does at its next step."""
        self._stopping.set()

    def close(self, timeout_s):
        """Stop, and wait for the end."""
        self.stop()
        if self._thread:
            self._thread.join(timeout_s)

    @contextlib.contextmanager
    def listening(self):
        """Queue of events, dicts, for a listener in this event loop."""
        queue: asyncio.Queue = asyncio.Queue(WAITING)
        self._listeners[queue] = asyncio.get_running_loop()
        try:
            yield queue
        finally:
            del self._listeners[queue]

    def tell(self, event):
        """Give an event to all who listen, from any thread."""
        for queue, loop in list(self._listeners.items()):
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(_put, queue, event)

    def _run(self, job, work):
        def listen(stage, done, total):
            if self._stopping.is_set():
                raise _StoppedError
            begins, now = stage != job.stage, time.monotonic()
            job.stage, job.done, job.total = stage, done, total
            if begins or now - self._told > TELL_EVERY_S:
                self._told = now
                self._tell_job(job)

        self._tell_job(job)
        try:
            with progress.told(listen):
                job.result = work()
            job.state = "done"
        except _StoppedError:
            job.state = "stopped"
        except RetrainError as error:
            job.state, job.error = "failed", f"{error} {error.hint}".strip()
        except Exception:
            log.exception("%s failed", job.kind)
            job.state, job.error = "failed", "it failed; the log of the server says why."
        job.seconds = time.monotonic() - job.start
        self._tell_job(job)
        self.tell({"event": "state"})

    def _tell_job(self, job):
        self.tell({"event": "job", "job": job.as_dict()})


def _put(queue, event):
    if queue.full():  # who is so far behind needs the last ones alone
        queue.get_nowait()
    queue.put_nowait(event)

"""Run a function on bytes in a process of its own, which may crash, hang or eat memory and takes nobody with it.

A process is started when one is first needed, at most one a core at a time, and kept for the next call.  What it sends
back is JSON and bytes, never a pickle: a decoder that was taken over has no word in this process.
"""

import atexit
import importlib
import json
import os
import resource
import signal
import struct
import subprocess
import sys
import threading
from contextlib import suppress

from retrain.parallel import cores

MEMORY_LIMIT = 700_000_000  # bytes of a process's own; some systems, such as macOS, do not enforce it

LONGEST = 2**31  # bytes of an answer that is believed
LENGTHS = struct.Struct(">QQ")  # bytes of the JSON, and of what follows it
# The child imports what this process would, and is told so without a trace of the environment.
BOOT = "import sys; sys.path[:] = sys.argv[1:]; from retrain.sandbox import serve; serve()"
STREAM_BOOT = "import sys; sys.path[:] = sys.argv[2:]; from retrain.sandbox import serve_stream as s; s(sys.argv[1])"


class CrashError(Exception):
    """The process ended before it answered; the text says how."""


class SlowError(CrashError):
    """The process ended because its time was over."""


def run(function, data, limit_s, **arguments):
    """What function(data, **arguments) returns in another process: a dict for JSON, and bytes.

    function: `module:name`.  limit_s: seconds by the clock on the wall.  Raises CrashError, SlowError, and OSError
    where no process can be started.
    """
    with _pool.seats:
        worker = _pool.take() or _Worker()
        try:
            answer = worker.ask({"function": function, "arguments": arguments, "limit_s": limit_s}, data)
        except BaseException:  # an interrupt, too, would leave half an answer in the pipe
            worker.end()
            raise
        _pool.idle.append(worker)
        return answer


def stream(function, file, limit_s, memory=MEMORY_LIMIT, **arguments):
    """Yield what the generator function(file, **arguments) yields in another process: each a dict, and bytes.

    function: `module:name`.  file: open for reading.  The function may yield None as a sign of life; limit_s: seconds
    from one sign to the next.  memory: bytes.  The process ends with the last answer, or when this generator is closed.
    Raises CrashError, SlowError, and OSError where no process can be started.
    """
    job = json.dumps({"function": function, "arguments": arguments, "limit_s": limit_s, "memory": memory})
    process = _start(["-c", STREAM_BOOT, job, *sys.path], file)
    try:
        while answer := _receive(process.stdout):
            yield answer
        _check(process, limit_s)
    finally:
        process.kill()
        process.communicate()


def _start(arguments, stdin):
    # NumPy would else start a thread a core, which counts as memory.  A session of its own, so that Ctrl-C ends
    # this process alone, and with it the pipes that the other lives on.
    return subprocess.Popen(
        [sys.executable, *arguments],
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
        start_new_session=True,
    )


def _check(process, limit_s):
    """Wait for a process, and raise CrashError or SlowError where it ended otherwise than it should."""
    code = process.wait()
    if code == -signal.SIGALRM:
        raise SlowError(f"no answer in {limit_s:.1f} seconds")
    if code:
        raise CrashError(signal.strsignal(-code) if code < 0 else f"exit code {code}")


class _Worker:
    def __init__(self):
        self.process = _start(["-c", BOOT, *sys.path], subprocess.PIPE)
        _pool.workers.add(self)

    def ask(self, fields, data):
        try:
            _send(self.process.stdin, fields, data)
            answer = _receive(self.process.stdout)
        except BrokenPipeError:
            answer = None
        if answer is None:
            _check(self.process, fields["limit_s"])
            raise CrashError("exit code 0")
        return answer

    def end(self):
        _pool.workers.discard(self)
        self.process.kill()
        self.process.communicate()  # waits, and closes the pipes


class _Pool:
    def __init__(self):
        self.seats = threading.BoundedSemaphore(cores())
        self.idle = []
        self.workers = set()

    def take(self):
        """An idle worker, or None.  One that was killed meanwhile, as for lack of memory, is left out."""
        with suppress(IndexError):  # of the threads that ask, another may get the last
            while worker := self.idle.pop():
                if worker.process.poll() is None:
                    return worker
                worker.end()
        return None

    def end(self):
        for worker in list(self.workers):
            worker.end()


def _start_afresh():
    global _pool  # a forked process must not talk into its parent's pipes
    _pool = _Pool()


_pool = _Pool()
os.register_at_fork(after_in_child=_start_afresh)
atexit.register(lambda: _pool.end())


def serve():
    """The other process: answer calls until the pipe is closed."""
    jobs, answers = _enter()
    _limit(resource.RLIMIT_DATA, MEMORY_LIMIT)
    while job := _receive(jobs):
        fields, data = job
        function = _function(fields["function"])
        signal.setitimer(signal.ITIMER_REAL, fields["limit_s"])
        answer = function(data, **fields["arguments"])
        signal.setitimer(signal.ITIMER_REAL, 0)
        _send(answers, *answer)


def serve_stream(job):
    """The other process: send what a function yields of the file on standard input."""
    fields = json.loads(job)
    file, answers = _enter()
    _limit(resource.RLIMIT_DATA, fields["memory"])
    signal.setitimer(signal.ITIMER_REAL, fields["limit_s"])
    for answer in _function(fields["function"])(file, **fields["arguments"]):
        signal.setitimer(signal.ITIMER_REAL, 0)  # the reader may take its time
        if answer is not None:
            _send(answers, *answer)
        signal.setitimer(signal.ITIMER_REAL, fields["limit_s"])


def _enter():
    """Standard input and output as files, apart from what a C library might read or print."""
    jobs, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    # What a C library prints must not get into the answers.
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    _limit(resource.RLIMIT_CORE, 0)
    # Not handled in Python, which would wait for the C code to return: the kernel ends the process.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGALRM])
    return jobs, answers


def _function(name):
    module, _, name = name.partition(":")
    return getattr(importlib.import_module(module), name)


def forbid_files():
    """From now on this process can open neither files nor connections; those that are open stay so."""
    _limit(resource.RLIMIT_NOFILE, 0)


def _limit(what, value):
    with suppress(ValueError, OSError):
        resource.setrlimit(what, (value, value))


def _send(pipe, fields, data):
    text = json.dumps(fields).encode()
    pipe.write(LENGTHS.pack(len(text), len(data)) + text)
    pipe.write(data)
    pipe.flush()


def _receive(pipe):
    """(fields, data), or None where the pipe ends first.  Raises CrashError where it holds something else."""
    head = pipe.read(LENGTHS.size)
    lengths = LENGTHS.unpack(head) if len(head) == LENGTHS.size else (0, 0)
    if sum(lengths) > LONGEST:
        raise CrashError("its answer is none")
    text, data = map(pipe.read, lengths)
    if not text or (len(text), len(data)) != lengths:
        return None
    try:
        return dict(json.loads(text)), data
    except (TypeError, ValueError, RecursionError) as error:
        raise CrashError("its answer is none") from error

"""Run the server until it is stopped: uvicorn, which waits no longer than a guess for those who say nothing."""

import logging
import sys

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from retrain.errors import RetrainError
from retrain.serve.app import create_app
from retrain.serve.guard import LOOPBACK, MAX_HEADER_BYTES, JSONFormatter
from retrain.serve.jobs import END

SILENT_S = 10  # a connection on which no whole request arrives
UNTAKEN_S = 30  # an answer that is not read
STOPPING_S = 10  # for requests under way
CONNECTIONS = 512
SPARE = 128  # beyond these, which are told that there are too many; all others are closed
LOGGERS = "retrain", "uvicorn.error", "asyncio"


def serve(options, tell):
    """Serve until SIGINT or SIGTERM.

    options: ServeOptions.  tell: called with the address once the server answers.  Raises RetrainError.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JSONFormatter())
    for name in LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)  # else it tells of its own start
    make_server(options, tell).run()


def make_server(options, tell):
    """Server of ServeOptions that has yet to `run`.  Raises RetrainError; also where all others reach it freely."""
    if options.host not in LOOPBACK and not (options.token or options.insecure):
        raise RetrainError(
            f"{options.host} can be reached from other machines, and there is no token.",
            "Name one: --token or RETRAIN_TOKEN. --insecure lets everybody in.",
        )
    app, jobs = create_app(options)
    config = uvicorn.Config(
        app, options.host, options.port, http=_Patient, ws="none", log_config=None, access_log=False,
        server_header=False, limit_concurrency=CONNECTIONS, backlog=SPARE, timeout_graceful_shutdown=STOPPING_S,
        h11_max_incomplete_event_size=MAX_HEADER_BYTES,
    )  # fmt: skip
    return _Server(config, tell, jobs)


class _Server(uvicorn.Server):
    def __init__(self, config, tell, jobs):
        super().__init__(config)
        self._tell, self._jobs = tell, jobs

    async def shutdown(self, sockets=None):
        self._jobs.tell(END)  # else it would wait for those who listen to events
        await super().shutdown(sockets)

    async def startup(self, sockets=None):
        try:
            await super().startup(sockets)
        except SystemExit as error:  # what uvicorn knows instead of an exception
            where = f"{self.config.host}:{self.config.port}"
            raise RetrainError(
                f"{where} cannot be served.",
                "Another program may be there (--port N), or that is no address of this machine.",
            ) from error
        if self.started:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            self._tell(f"http://{f'[{host}]' if ':' in host else host}:{port}/")


class _Patient(H11Protocol):
    """Closes connections on which a request does not arrive, or its answer not leave; uvicorn would wait for ever."""

    _silence = _untaken = None

    def connection_made(self, transport):
        super().connection_made(transport)
        if len(self.connections) > CONNECTIONS + SPARE:
            transport.abort()
        transport.set_write_buffer_limits(high=0)  # pause_writing is called for all that does not leave at once
        self._wait()

    def data_received(self, data):
        super().data_received(data)
        if self.cycle is None or self.cycle.response_complete:
            self._wait()
        else:
            self._cancel("_silence")

    def pause_writing(self):
        super().pause_writing()
        self._untaken = self.loop.call_later(UNTAKEN_S, self.transport.abort)

    def resume_writing(self):
        super().resume_writing()
        self._cancel("_untaken")

    def connection_lost(self, exc):
        self._cancel("_silence")
        self._cancel("_untaken")
        super().connection_lost(exc)

    def _cancel(self, timer):
        if running := getattr(self, timer):
            running.cancel()
            setattr(self, timer, None)

    def _wait(self):
        if self._silence is None:
            self._silence = self.loop.call_later(SILENT_S, self.transport.close)

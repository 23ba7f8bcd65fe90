"""A server of ours in a thread of the tests."""

import threading
from contextlib import contextmanager

from retrain.options import ServeOptions
from retrain.serve.running import make_server


@contextmanager
def serving(**options):
    """A server in a thread.  Yields its address, without the last slash."""
    ready = threading.Event()
    addresses = []

    def tell(address):
        addresses.append(address.rstrip("/"))
        ready.set()

    server = make_server(ServeOptions(port=0, **options), tell)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        assert ready.wait(30)
        yield addresses[0]
    finally:
        server.should_exit = True
        thread.join()

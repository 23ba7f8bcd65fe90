"""Keep a second process out of a folder.  The lock ends with this process, however that ends."""

import fcntl
from contextlib import contextmanager

from retrain.errors import RetrainError


@contextmanager
def locked(path, command, folder):
    """Hold a lock file while this lasts.  Raises RetrainError where another process holds it."""
    with open(path, "wb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RetrainError(f"another retrain {command} is at work in {folder}.", "Wait for its end.") from None
        yield

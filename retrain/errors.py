"""What can go wrong, as one family: each error says what and where, and ends in an action."""

from contextlib import contextmanager


class RetrainError(Exception):
    """An error for the user.  message: what is wrong and where; hint: what to do."""

    exit_code = 1

    def __init__(self, message, hint=None):
        super().__init__(message)
        self.hint = hint


def require_known(what, value, known):
    """Raise RetrainError unless value is one of the known ones."""
    if value not in known:
        raise RetrainError(f"there is no {what} {value!r}.", f"There is: {', '.join(known)}.")


@contextmanager
def writing_to(place, hint="Name a folder that you may write to."):
    """An OSError in here becomes a RetrainError that says where; but not that nobody reads our output any more."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise RetrainError(f"cannot write to {place}: {error.strerror or error}.", hint) from error

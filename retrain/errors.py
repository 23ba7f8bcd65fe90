"""What can go wrong, as one family: each error says what and where, and ends in an action."""


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

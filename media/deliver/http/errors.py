"""Requests that get an error instead of a handler."""

from media.errors import WireError


class BadRequest(WireError):
    """A request that breaks HTTP or a limit: answered with `status` and the text, then closed."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status

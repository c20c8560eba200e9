"""What can go wrong in mesh, by whose fault."""


class MeshError(Exception):
    """Root of this package's errors."""


class RemoteError(MeshError):
    """The other side broke its protocol: say why, drop it, count it."""


class WireError(RemoteError):
    """Bytes from outside do not parse. The only error that `*_untrusted` functions raise."""


class Refused(RemoteError):
    """The other side asked for something that it may not have. The text is for them to read."""


class StateError(MeshError):
    """Our own code called something out of order."""


class Unavailable(MeshError):
    """Cannot be had now; trying again after `retry_after_s` may help."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s

"""What can go wrong here."""


class DevicesError(Exception):
    """Base of every error of this package."""


class WireError(DevicesError):
    """A trial worker, a cache file or a driver's text said something that cannot be."""


class StateError(DevicesError):
    """This package was used in a way that it does not allow."""

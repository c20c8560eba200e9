"""What can go wrong for the operator, with the exit code that says whose move it is."""


class FwnodeError(Exception):
    """One sentence for a person: what is wrong, where, and what to do. Ends a command with `exit_code`."""

    exit_code = 1


class ConfigError(FwnodeError):
    """A setting cannot be used. Names the key, and the file and line, variable or option it came from."""

    exit_code = 2


class UsageError(FwnodeError):
    """The command was given something that it cannot use."""

    exit_code = 2


class StoreError(FwnodeError):
    """The data folder or its database cannot be read or written."""


class NodeError(FwnodeError):
    """The running node cannot be reached, or said no."""

"""What the operator holds back until a time, or until told otherwise: a drain, or a pause. Pure."""

from collections.abc import Iterable
from enum import StrEnum

import msgspec

FOREVER = 0.0  # no time set: until it is resumed


class Role(StrEnum):
    """Whom a drain is about."""

    VIEWERS = "viewers"
    PUBLISHERS = "publishers"
    EDGES = "edges"


EVERYBODY = tuple(Role)


class Holds(msgspec.Struct, frozen=True):
    """All that is held; times are Unix seconds. Kept on disk as it is."""

    drain: dict[Role, float] = {}  # until when, by role
    pause: float | None = None  # None: not paused

    def drained(self, roles: Iterable[Role], until: float = FOREVER) -> "Holds":
        """With these roles drained; asked again, the new time counts."""
        return msgspec.structs.replace(self, drain=self.drain | dict.fromkeys(roles, until))

    def paused(self, until: float = FOREVER) -> "Holds":
        """With nobody new let in."""
        return msgspec.structs.replace(self, pause=until)

    def at(self, unix_s: float) -> "Holds":
        """What is left of it; the same object when nothing ended."""
        drain = {role: until for role, until in self.drain.items() if until == FOREVER or until > unix_s}
        over = self.pause is not None and self.pause != FOREVER and self.pause <= unix_s
        if len(drain) == len(self.drain) and not over:
            return self
        return Holds(drain, None if over else self.pause)

    def next_end(self) -> float | None:
        """When the first of them ends by itself; None: none does."""
        times = [*self.drain.values(), *(() if self.pause is None else (self.pause,))]
        return min((until for until in times if until != FOREVER), default=None)

    @property
    def any(self) -> bool:
        return bool(self.drain) or self.pause is not None

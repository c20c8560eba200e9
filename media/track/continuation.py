"""Where a stream goes on that somebody else wrote: the first numbers that no packet of it has. Pure.

Viewers know a stream by its numbers. Who goes on with one that another node, or another epoch, began takes
its numbers up exactly where they stopped: none is missing, and none comes back for other bytes.
"""

import msgspec


class Continuation(msgspec.Struct, array_like=True, frozen=True):
    """The numbers that the next packet gets at least."""

    segment: int
    discontinuity: int
    group: int
    init: int
    media_us: int  # end of the newest packet in media time
    unix_us: int  # wall clock of that, 0 when it is not known
    target_duration_us: int  # playlists have promised that no segment is longer


def furthest(first: Continuation, *others: Continuation | None) -> Continuation:
    """What goes on behind all of them; None says nothing."""
    rows = [msgspec.structs.astuple(each) for each in (first, *others) if each is not None]
    return Continuation(*[max(column) for column in zip(*rows, strict=True)])

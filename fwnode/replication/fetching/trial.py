"""What another parent sends while the present one still feeds this node. Pure.

Nothing of it is believed or written: it is kept until it is clear that a change costs viewers nothing, and
goes to the replica then, or is thrown away.
"""

from media.errors import WireError
from media.replicate.wire import (
    Alive,
    Describe,
    End,
    FrameReader,
    Gone,
    Marked,
    Skip,
    ToEdge,
    parse_to_edge_untrusted,
)
from media.track.model import MICROSECONDS

TRIAL_BYTES_MAX = 32 * 1024 * 1024  # six seconds, beyond which parents skip, of 40 Mb/s


class Trial:
    """How far a parent has got."""

    def __init__(self, depth: int) -> None:
        """`depth`: as it answered."""
        self.depth = depth
        self.newest_us = -1  # end of the newest packet, in media time
        self.leaps = False  # it does not go on where this node is
        self.goes = ""  # why it sends no more
        self._reader = FrameReader(parse_to_edge_untrusted)
        self._timescales: dict[int, int] = {}
        self._taken = bytearray()

    def take(self) -> bytes:
        """All that came, for the replica."""
        taken, self._taken = bytes(self._taken), bytearray()
        return taken

    def receive(self, data: bytes) -> None:
        """Bytes from the parent. Raises WireError."""
        self._taken += data
        if len(self._taken) > TRIAL_BYTES_MAX:
            raise WireError("it sent too much before it got as far as the present parent")
        for message in self._reader.feed(data):
            self._hear(message)

    def _hear(self, message: ToEdge | Marked) -> None:
        match message:
            case Marked():
                timescale = self._timescales.get(message.track)
                if timescale is None:
                    raise WireError(f"a packet of track {message.track}, which was not described")
                end = message.dts + message.duration
                self.newest_us = max(self.newest_us, end * MICROSECONDS // timescale)
            case Describe():
                self._timescales = {track.id: track.timescale for track in message.tracks}
            case Skip():
                self.leaps = True
            case Alive():
                self.depth = message.depth
            case End() | Gone():
                self.goes = message.reason or "it sends no more"

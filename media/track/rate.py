"""How much of a track comes in. Pure."""

RATE_WINDOW_S = 2.0  # bitrates are means over this long


class TrackRate:
    """Packets and bytes of one track, with a mean over the last RATE_WINDOW_S."""

    __slots__ = ("_bytes_then", "_packets_then", "_then", "bitrate_bps", "bytes", "frame_rate", "packets")

    def __init__(self, now: float) -> None:
        self.packets = self.bytes = self.bitrate_bps = 0
        self.frame_rate = 0.0
        self._then, self._packets_then, self._bytes_then = now, 0, 0

    def update(self, now: float) -> None:
        elapsed = now - self._then
        if elapsed < RATE_WINDOW_S:
            return
        self.bitrate_bps = round((self.bytes - self._bytes_then) * 8 / elapsed)
        self.frame_rate = (self.packets - self._packets_then) / elapsed
        self._then, self._packets_then, self._bytes_then = now, self.packets, self.bytes

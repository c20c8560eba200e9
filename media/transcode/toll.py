"""What one stream's renditions took of the machine, and what came of it. Pure."""

from media.track.model import MICROSECONDS, Packet
from media.transcode.wire import Spent


class Toll:
    """Sums since the session began; whoever reads them takes the differences.

    `media_us` is media time that was transcoded, `made_us` that of the pictures by encoder and
    short side, gaps left out; `made_bytes` is their size.
    """

    def __init__(self) -> None:
        self.cpu_s = self.busy_s = 0.0
        self.media_us = 0
        self.made_us: dict[tuple[str, int], int] = {}
        self.made_bytes: dict[tuple[str, int], int] = {}

    def spent(self, spent: Spent) -> None:
        """The worker said so."""
        self.cpu_s += spent.cpu_s
        self.busy_s += spent.busy_s
        self.media_us += spent.media_us

    def made(self, engine: str, packet: Packet) -> None:
        """A picture went into the ladder."""
        if packet.data:
            duration_us = packet.duration * MICROSECONDS // packet.track.timescale
            key = (engine, packet.track.id)
            self.made_us[key] = self.made_us.get(key, 0) + duration_us
            self.made_bytes[key] = self.made_bytes.get(key, 0) + len(packet.data)

"""Makes every fwnode that has this on its PYTHONPATH a liar: it flips one bit of one packet that it sends.

Python imports a module of this name when it starts. The packet is the first of video that goes out AFTER_S
after the first one, and only once: what is found out must be found out from one byte.
"""

import sys
import time

AFTER_S = 6.0

if "run" in sys.argv[1:2] or "run" in sys.orig_argv:
    from media.replicate import publication, wire
    from media.track.model import Kind, Packet

    class Liar:
        """In place of `encode_packet`."""

        def __init__(self) -> None:
            self._honest = publication.encode_packet
            self._since: float | None = None
            self._lied = False

        def __call__(self, packet: Packet) -> tuple[bytes, bytes]:
            head, data = self._honest(packet)
            now = time.monotonic()
            self._since = self._since or now
            late = now - self._since > AFTER_S
            if late and not self._lied and packet.track.kind is Kind.VIDEO and data:
                self._lied = True
                print("lied", packet.segment, packet.part, file=sys.stdout, flush=True)
                data = data[:-1] + bytes((data[-1] ^ 1,))
            return head, data

    publication.encode_packet = wire.encode_packet = Liar()

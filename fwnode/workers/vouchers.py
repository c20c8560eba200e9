"""Vouches for every stream of the agent towards its own workers. Pure.

Replication wants each part signed. Between two processes of one node a signature would prove
nothing, so the place of it is empty; the digests are made and checked as between nodes.
"""

from media.replicate.signing import Identity, Signer
from media.replicate.wire import SIGNATURE_BYTES
from media.track.registry import Streams
from media.track.stream import StreamState

NO_SIGNATURE = bytes(SIGNATURE_BYTES)


class Vouchers:
    """A signer of each stream, from its first packet on. A stream's epoch is its id among these."""

    def __init__(self, streams: Streams, now: float) -> None:
        self._streams = streams
        self._signers: dict[str, Signer] = {}
        self._last_id = 0
        streams.subscribe(self.changed)
        for name in streams.names():
            self.changed(name, now)

    def get(self, name: str) -> Signer | None:
        """The signer of the stream that has that name now, also when that has ended."""
        return self._signers.get(name)

    def changed(self, name: str, now: float) -> None:
        """Listener of the registry."""
        stream, held = self._streams.get(name), self._signers.get(name)
        if held is not None and held.stream is not stream:
            held.stream.unsubscribe(held.update)
            del self._signers[name]
            held = None
        if stream is not None and held is None and not _is_over(stream.state, stream.ring.next):
            self._last_id += 1
            signer = Signer(stream, Identity(name, self._last_id), lambda message: NO_SIGNATURE)
            stream.subscribe(signer.update)
            self._signers[name] = signer


def _is_over(state: StreamState, packets: int) -> bool:
    return state is StreamState.ENDED and not packets

"""The streams that are published here: their epochs, and their signers from the first packet on. Pure."""

from collections.abc import Callable

from media.replicate.signing import Identity, Sign, Signer
from media.track.registry import Streams
from media.track.stream import Stream, StreamState
from mesh.directory.facts import CarriedStream
from mesh.routing.owners import Said, next_epoch

EPOCHS_MAX = 4096  # names whose last epoch is remembered, the latest; the wall clock is ahead of the rest
BITRATE_CHANGE = 0.25  # of what was told: a record goes to every member, and encoders waver by a tenth


class Bitrates:
    """Bitrates as they are told: steady while streams waver."""

    def __init__(self) -> None:
        self._told: dict[str, int] = {}

    def of(self, stream: Stream) -> int:
        """What to tell of a stream now; 0 until it is known."""
        now, told = stream.bitrate_bps, self._told.get(stream.name, 0)
        if now and abs(now - told) > BITRATE_CHANGE * told:
            told = self._told[stream.name] = now
        return told

    def forget(self, name: str) -> None:
        self._told.pop(name, None)


class Origins:
    """Signs what is published on this node, from `follow` until `close`."""

    def __init__(
        self, streams: Streams, said: Callable[[str], Said], sign: Sign, unix_us: Callable[[], int]
    ) -> None:
        """`said`: who carries a name, as the directory knows it; `sign` with the node's key."""
        self._streams = streams
        self._said = said
        self._sign = sign
        self._unix_us = unix_us
        self._epochs: dict[str, int] = {}
        self._signers: dict[str, Signer] = {}
        self._bitrates = Bitrates()

    def follow(self, now: float) -> None:
        """Sign what is published now and from now on."""
        self._streams.subscribe(self._changed)
        for name in self._streams.names():
            self._changed(name, now)

    def close(self) -> None:
        """Sign no more."""
        self._streams.unsubscribe(self._changed)
        for signer in self._signers.values():
            signer.stream.unsubscribe(signer.update)
        self._signers.clear()

    def get(self, name: str) -> Signer | None:
        """The signer of a stream that is, or was until a moment ago, published here."""
        return self._signers.get(name)

    def carried(self) -> list[CarriedStream]:
        """What to tell of them."""
        return [
            CarriedStream(
                name,
                signer.identity.epoch,
                0,
                [track.name for track in signer.stream.tracks.values()],
                bitrate_bps=self._bitrates.of(signer.stream),
            )
            for name, signer in self._signers.items()
            if signer.stream.state is not StreamState.ENDED
        ]

    def _changed(self, name: str, now: float) -> None:
        stream = self._streams.get(name)
        held = self._signers.get(name)
        if held is not None and held.stream is not stream:
            held.stream.unsubscribe(held.update)
            del self._signers[name]
            self._bitrates.forget(name)
            held = None
        if stream is None or stream.replicated or stream.state is StreamState.ENDED or held is not None:
            return
        signer = Signer(stream, Identity(name, self._next_epoch(name)), self._sign)
        stream.subscribe(signer.update)
        self._signers[name] = signer

    def _next_epoch(self, name: str) -> int:
        epoch = next_epoch(self._said(name), self._unix_us(), self._epochs.pop(name, 0))
        self._epochs[name] = epoch
        if len(self._epochs) > EPOCHS_MAX:
            del self._epochs[next(iter(self._epochs))]
        return epoch

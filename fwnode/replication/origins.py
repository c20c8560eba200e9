"""The streams that are published here: their epochs, their signers, and when they give way. Pure.

A publisher who goes on with a stream of this node's own stays in its epoch. Every other one begins an epoch
above all that the directory tells of. Nothing of that is kept on disk: after a restart the wall clock is
ahead of the epochs of before. Were it set back, and a publisher sooner than the directory, its epoch would
be below what edges still have; they end that within their linger time, and then take the new one.
"""

from collections.abc import Callable

import msgspec

from media.replicate.signing import Identity, Sign, Signer
from media.track.continuation import Continuation
from media.track.model import MICROSECONDS
from media.track.registry import Streams
from media.track.stream import Stream, StreamState, Writer
from mesh.directory.facts import CarriedStream, Resume
from mesh.model import NodeId
from mesh.routing.owners import Publication, Said, Yielded, has_lost, next_epoch, refusal

EPOCHS_MAX = 4096  # names whose last epoch is remembered, the latest; the wall clock is ahead of the rest
YIELDED_MAX = 512  # names that were lost and are refused for a while, the latest; a node has as many streams
BITRATE_CHANGE = 0.25  # of what was told: a record goes to every member, and encoders waver by a tenth
CLOCKS_APART_US = 60 * MICROSECONDS  # guess; a stream's wall clock goes on behind another node's by so much
# What others tell of a stream's numbers is bounded so that ours stay within what all formats can hold.
NUMBERS_FACTOR = 2  # segments are numbered from seconds since 1970; those shorter than one run ahead of them
BREAKS_MAX = 2**31  # discontinuities; players hold them in 32 bits
GROUPS_MAX = 2**40  # a thousand a second for thirty years
MEDIA_US_MAX = 10 * 366 * 86_400 * MICROSECONDS  # no stream has run for ten years
TARGET_US_MAX = 60 * MICROSECONDS  # three times the longest segment without a hole


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


def resume_of(stream: Stream) -> Resume | None:
    """What to tell of where a stream that rests goes on; None when there is nothing of it."""
    if stream.ring.next == 0 and not stream.continues:
        return None
    return Resume(*msgspec.structs.astuple(stream.continuation))


def continuation_untrusted(resume: Resume, unix_us: int) -> Continuation | None:
    """Where a member says that a stream goes on; None when it cannot be so."""
    numbers_max = NUMBERS_FACTOR * unix_us // MICROSECONDS
    if max(resume.segment, resume.init) > numbers_max or resume.group > GROUPS_MAX:
        return None
    if resume.discontinuity > BREAKS_MAX or resume.media_us > MEDIA_US_MAX:
        return None
    wall_us, target_us = unix_us + CLOCKS_APART_US, min(resume.target_duration_us, TARGET_US_MAX)
    found = Continuation(*msgspec.structs.astuple(resume))
    return msgspec.structs.replace(found, unix_us=min(found.unix_us, wall_us), target_duration_us=target_us)


class Origins:
    """Signs what is published on this node, from `follow` until `close`."""

    def __init__(
        self,
        node: NodeId,
        streams: Streams,
        said: Callable[[str], Said],
        current: Callable[[str], Publication | None],
        sign: Sign,
        unix_us: Callable[[], int],
    ) -> None:
        """`said`: who carries a name, as the directory knows it, `current`: what it means in the network.

        `sign` with the node's key.
        """
        self._node = node
        self._streams = streams
        self._said = said
        self._current = current
        self._sign = sign
        self._unix_us = unix_us
        self._epochs: dict[str, int] = {}
        self._signers: dict[str, Signer] = {}
        self._yielded: dict[str, Yielded] = {}
        self._bitrates = Bitrates()

    def follow(self, now: float) -> None:
        """Sign what is published now and from now on."""
        self._streams.subscribe(self._changed)
        for name in self._streams.names():
            self._changed(name, now)

    def close(self) -> None:
        """Sign no more."""
        self._streams.unsubscribe(self._changed)
        for name in list(self._signers):
            self._drop(name)

    def get(self, name: str) -> Signer | None:
        """The signer of a stream that is, or was until a moment ago, published here."""
        return self._signers.get(name)

    def publication(self, name: str) -> Publication | None:
        """What is published here under that name, until it has ended."""
        signer = self._signers.get(name)
        if signer is None or signer.stream.state is StreamState.ENDED:
            return None
        return Publication(signer.identity.epoch, self._node)

    def carried(self) -> list[CarriedStream]:
        """What to tell of them."""
        return [
            CarriedStream(
                name,
                signer.identity.epoch,
                0,
                [track.name for track in signer.stream.tracks.values()],
                bitrate_bps=self._bitrates.of(signer.stream),
                resume=resume_of(signer.stream) if signer.stream.state is StreamState.LINGERING else None,
            )
            for name, signer in self._signers.items()
            if signer.stream.state is not StreamState.ENDED
        ]

    # --- publishers

    def begin(self, writer: Writer, now: float) -> list[NodeId]:
        """A publisher came. Returns who must be asked where the stream goes on, for `Writer.begin`.

        Nobody need be asked when it goes on in its own epoch, or no other node has it: it has begun then.
        """
        stream = writer.stream
        name, own = stream.name, self.publication(stream.name)
        if own is not None and self._goes_on(stream, own):
            return []
        self._drop(name)
        writer.delay(now)
        self._begin_signing(stream)
        others = [(node, carried) for node, carried in self._said(name) if node != self._node]
        if not others:
            writer.begin(None, now)
        return [node for node, _ in sorted(others, key=lambda each: each[1].depth)]

    def _goes_on(self, stream: Stream, own: Publication) -> bool:
        """Whether an epoch that has begun here is nobody else's to go on with."""
        has_given_way = self._epochs.get(stream.name, 0) > own.epoch_unix_us
        has_begun = stream.ring.next > stream.epoch_begin
        return has_begun and not has_given_way and not has_lost(own, self._current(stream.name))

    def told(self, name: str) -> list[Continuation]:
        """Where others say that a stream goes on which rests."""
        told = [
            continuation_untrusted(carried.resume, self._unix_us())
            for node, carried in self._said(name)
            if carried.resume is not None and node != self._node
        ]
        return [each for each in told if each is not None]

    def lost(self) -> list[tuple[str, Publication]]:
        """What is published here and on another node, which comes before this one."""
        found = []
        for name in self._signers:
            own, current = self.publication(name), self._current(name)
            if own is not None and current is not None and has_lost(own, current):
                found.append((name, current))
        return found

    def give_way(self, name: str, winner: Publication, reason: str, now: float) -> Continuation | None:
        """Stop the publisher here; returns where the stream goes on, None when there is nothing of it."""
        signer = self._signers[name]
        stream = signer.stream
        self._epochs[name] = max(signer.identity.epoch, winner.epoch_unix_us)
        if stream.state in (StreamState.STARTING, StreamState.LIVE):
            self._yielded.pop(name, None)
            self._yielded[name] = Yielded(winner, now)
            if len(self._yielded) > YIELDED_MAX:
                del self._yielded[next(iter(self._yielded))]
            self._streams.yield_to(name, reason, now)
        return stream.continuation if stream.ring.next or stream.continues else None

    def refusal(self, name: str, now: float) -> str:
        """Why a publisher of that name is refused here now, "" when it is not."""
        yielded = self._yielded.get(name)
        if yielded is None:
            return ""
        current = self._current(name)
        rests = any(
            current == Publication(carried.epoch_unix_us, node) and carried.resume is not None
            for node, carried in self._said(name)
        )
        reason = refusal(yielded, current, now, rests=rests)
        if not reason:
            del self._yielded[name]
        return reason

    # --- signers

    def _changed(self, name: str, now: float) -> None:
        stream = self._streams.get(name)
        held = self._signers.get(name)
        if held is not None and (held.stream is not stream or stream.replicated):
            self._drop(name)
            held = None
        if held is not None or stream is None or stream.replicated or stream.state is StreamState.ENDED:
            return
        self._begin_signing(stream)

    def _begin_signing(self, stream: Stream) -> None:
        name = stream.name
        epoch = next_epoch(self._said(name), self._unix_us(), self._epochs.pop(name, 0))
        self._epochs[name] = epoch
        if len(self._epochs) > EPOCHS_MAX:
            del self._epochs[next(iter(self._epochs))]
        signer = Signer(stream, Identity(name, epoch), self._sign)
        stream.subscribe(signer.update)
        self._signers[name] = signer

    def _drop(self, name: str) -> None:
        signer = self._signers.pop(name, None)
        if signer is not None:
            signer.stream.unsubscribe(signer.update)
            self._bitrates.forget(name)

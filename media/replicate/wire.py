"""What is said on one replication stream: frames of a length, a kind and a body. Pure.

    frame  := length u32 (of kind and body), kind u8, body          all big-endian
    body   := MessagePack array (control)
            | MARKS, data (packet) | MARKS, SHA-256 of the data (hollow: a track that was not asked for)

The edge speaks first, with Want. The parent answers with Describe before each section, packets,
after each part's last packet its PartSigned, and says what else the edge must know. A packet's
data is never copied into another message: it follows its marks.
"""

import itertools
import struct
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from typing import Annotated, Generic, NamedTuple, TypeAlias, TypeVar

import msgspec
from msgspec import Meta

from media.bitstream.describe import MAX_CONFIG_BYTES
from media.errors import WireError
from media.track.model import Codec, Hollow, Kind, Packet, Track
from media.track.stream import TRACKS_MAX, Section, StreamState

PACKET_BYTES_MAX = 32 * 1024 * 1024  # an RTMP message has at most 16 MiB, the largest that ingest takes in
TO_PARENT_BYTES_MAX = 4096  # a Want with sixteen tracks is below 200
CONTROL_BYTES_MAX = 2 * 1024 * 1024  # sixteen of the longest codec configurations are 1 MiB
NUMBER_MAX = 2**53  # segments, groups, epochs: what every language's numbers hold exactly
TICKS_MAX = 2**62  # 1.6 million years at 90 kHz
FIELD_MAX = 2**31 - 1  # lengths and offsets in a movie fragment are signed 32-bit (ISO 14496-12 8.8.8)
TARGET_US_MAX = 600_000_000  # thirty times the longest segment that a marker makes without a hole
HASH_BYTES = 32  # SHA-256
SIGNATURE_BYTES = 64  # Ed25519
REASON_CHARS_MAX = 200  # one sentence for people
TITLE_CHARS_MAX = 256  # playlists show 64
LANGUAGE_CHARS_MAX = 35  # the longest tag that BCP 47 asks software to keep (4.4.1)

LENGTH_BYTES = 4
CONTROL, PACKET, HOLLOW = 0, 1, 2
MARKS = struct.Struct(">BHQIIQQII")  # flags, track, segment, part, discontinuity, group, dts, cts, duration
KEYFRAME = 1  # the one flag
_PREFIX = struct.Struct(">IB")
_PACKET_HEAD = struct.Struct(">IB" + MARKS.format[1:])

Number: TypeAlias = Annotated[int, Meta(ge=0, le=NUMBER_MAX)]
Index: TypeAlias = Annotated[int, Meta(ge=0, le=2**32 - 1)]
TrackId: TypeAlias = Annotated[int, Meta(ge=0, le=65535)]
Micros: TypeAlias = Annotated[int, Meta(ge=0, le=TICKS_MAX)]
Depth: TypeAlias = Annotated[int, Meta(ge=0, le=64)]  # hops; as in the directory's records
Target: TypeAlias = Annotated[int, Meta(ge=1, le=TARGET_US_MAX)]
Hash: TypeAlias = Annotated[bytes, Meta(min_length=HASH_BYTES, max_length=HASH_BYTES)]
Signature: TypeAlias = Annotated[bytes, Meta(min_length=SIGNATURE_BYTES, max_length=SIGNATURE_BYTES)]
Reason: TypeAlias = Annotated[str, Meta(max_length=REASON_CHARS_MAX)]
Position: TypeAlias = tuple[Number, Index]  # segment and part


class TrackEntry(msgspec.Struct, array_like=True, frozen=True):
    """A Track with its origin's init number; see Track for the fields."""

    id: TrackId
    codec: Codec
    timescale: Annotated[int, Meta(ge=1, le=FIELD_MAX)]
    config: Annotated[bytes, Meta(max_length=MAX_CONFIG_BYTES)]
    init: Number
    width: Annotated[int, Meta(ge=0, le=65535)]
    height: Annotated[int, Meta(ge=0, le=65535)]
    sample_rate: Annotated[int, Meta(ge=0, le=FIELD_MAX)]
    channels: Annotated[int, Meta(ge=0, le=255)]
    language: Annotated[str, Meta(max_length=LANGUAGE_CHARS_MAX)]
    title: Annotated[str, Meta(max_length=TITLE_CHARS_MAX)]
    declared_bps: Annotated[int, Meta(ge=0, le=2**32 - 1)]
    declared_fps: Annotated[float, Meta(ge=0, le=10_000)]


class Describe(msgspec.Struct, array_like=True, frozen=True, tag=1):
    """A section: the packets of this discontinuity follow. `epoch` is the same all along a stream."""

    epoch: Number
    discontinuity: Index
    media_us: Micros  # media time of the section's first packet
    unix_us: Annotated[int, Meta(ge=0, le=NUMBER_MAX)]  # wall clock of it, at the origin
    tracks: Annotated[list[TrackEntry], Meta(min_length=1, max_length=TRACKS_MAX)]


class PartSigned(msgspec.Struct, array_like=True, frozen=True, tag=2):
    """The origin's word on a part, after its last packet; media.replicate.signing says over what."""

    discontinuity: Index
    segment: Number
    part: Index
    part_target_us: Target  # what playlists say from now on
    target_duration_us: Target
    closes: bool  # the publisher went: nothing more comes in this segment
    digest: Hash
    previous: Hash  # links to the part before; zeros where the chain begins
    signature: Signature

    @property
    def position(self) -> tuple[int, int]:
        return self.segment, self.part


class State(msgspec.Struct, array_like=True, frozen=True, tag=3):
    """The stream's state at the sender, once the edge has all that it had. Never ENDED: that is End."""

    state: StreamState


class Skip(msgspec.Struct, array_like=True, frozen=True, tag=4):
    """What lies between is gone or came too slowly: this segment is next."""

    segment: Number


class Retract(msgspec.Struct, array_like=True, frozen=True, tag=5):
    """The packets sent of this part were not the origin's, as the sender found out: forget them."""

    segment: Number
    part: Index


class End(msgspec.Struct, array_like=True, frozen=True, tag=6):
    """The stream has ended; its last part `closes`."""

    reason: Reason


class Gone(msgspec.Struct, array_like=True, frozen=True, tag=7):
    """This parent sends no more; another one may. `full`: it would if there were nobody else."""

    reason: Reason
    full: bool = False


class Alive(msgspec.Struct, array_like=True, frozen=True, tag=10):
    """Said ever so often: the sender is the origin or hears its own parent, and is so deep in the tree now.

    `newest_us` is the end of the newest packet that it has, `sent_ms` a clock of its own: from both the edge
    sees how late it is served, however the origin's clock runs. Not in the middle of a frame, else anywhere.
    """

    depth: Depth
    newest_us: Micros
    sent_ms: Number


class Want(msgspec.Struct, array_like=True, frozen=True, tag=8):
    """Begin, or from the next segment on send other tracks.

    `tracks` are ids, none: all. `history_us` is how much the edge wants of what has been;
    `after`, with the `epoch` it belongs to, is the last part that it has verified. `beyond` is the last
    segment that it has of an earlier epoch: nothing below is wanted, and all above. `last_resort`: there is
    nobody else, so a parent whose uplink is full is asked nevertheless.
    """

    tracks: Annotated[list[TrackId], Meta(max_length=TRACKS_MAX)] = []
    history_us: Annotated[int, Meta(ge=0, le=NUMBER_MAX)] = 0
    epoch: Number = 0
    after: Position | None = None
    beyond: Number | None = None
    last_resort: bool = False


class Drop(msgspec.Struct, array_like=True, frozen=True, tag=9):
    """The edge wants no more."""

    reason: Reason = ""


class Vouched(msgspec.Struct, array_like=True, frozen=True, tag=11):
    """The sender's own word on the part whose PartSigned is next; media.replicate.vouching says over what."""

    signature: Signature


class Marked(NamedTuple):
    """A packet as it came: `marks` are the bytes that are signed, `data` None for a hollow one."""

    marks: bytes
    keyframe: bool
    track: int
    segment: int
    part: int
    discontinuity: int
    group: int
    dts: int
    cts: int
    duration: int
    data: bytes | None
    payload_hash: bytes


ToEdge: TypeAlias = Describe | PartSigned | State | Skip | Retract | End | Gone | Alive | Vouched
ToParent: TypeAlias = Want | Drop

Parsed = TypeVar("Parsed")

_encode = msgspec.msgpack.Encoder().encode
_to_edge: "msgspec.msgpack.Decoder[ToEdge]" = msgspec.msgpack.Decoder(ToEdge)
_to_parent: "msgspec.msgpack.Decoder[ToParent]" = msgspec.msgpack.Decoder(ToParent)


def encode(message: ToEdge | ToParent) -> bytes:
    """A control message as a frame."""
    body = _encode(message)
    return _PREFIX.pack(len(body) + 1, CONTROL) + body


def encode_packet(packet: Packet) -> tuple[bytes, bytes]:
    """A packet as a frame in two buffers, the second is the packet's own data."""
    if type(packet) is Hollow:
        return encode_hollow(packet), b""
    data = packet.data
    head = _PACKET_HEAD.pack(
        1 + MARKS.size + len(data), PACKET, packet.keyframe, packet.track.id, packet.segment, packet.part,
        packet.discontinuity, packet.group, packet.dts, packet.cts, packet.duration,
    )  # fmt: skip
    return head, data


def encode_hollow(packet: Packet) -> bytes:
    """A packet's marks and its data's hash as a frame."""
    return _PREFIX.pack(1 + MARKS.size + HASH_BYTES, HOLLOW) + marks_of(packet) + payload_hash_of(packet)


def marks_of(packet: Packet) -> bytes:
    """A packet's marks and times as they are signed and sent."""
    return MARKS.pack(
        packet.keyframe, packet.track.id, packet.segment, packet.part, packet.discontinuity,
        packet.group, packet.dts, packet.cts, packet.duration,
    )  # fmt: skip


def payload_hash_of(packet: Packet) -> bytes:
    """SHA-256 of the packet's data at its origin."""
    return packet.payload_hash if isinstance(packet, Hollow) else sha256(packet.data).digest()


def describe_section(section: Section, epoch: int) -> Describe:
    """A section for the wire. The same section gives the same bytes on every node, 30 and 30.0 too."""
    tracks = [
        TrackEntry(
            track.id, track.codec, track.timescale, track.config, track.init, track.width, track.height,
            track.sample_rate, track.channels, track.language[:LANGUAGE_CHARS_MAX],
            track.title[:TITLE_CHARS_MAX], track.declared_bps, float(track.declared_fps),
        )
        for track in section.tracks
    ]  # fmt: skip
    return Describe(epoch, section.discontinuity, section.media_us, section.unix_us, tracks)


def section_of(message: Describe) -> Section:
    """The section that a Describe tells of."""
    tracks = tuple(
        Track(
            entry.id, entry.codec, entry.timescale, entry.config, entry.init, entry.width, entry.height,
            entry.sample_rate, entry.channels, entry.language, entry.title, entry.declared_bps,
            entry.declared_fps,
        )
        for entry in message.tracks
    )  # fmt: skip
    return Section(message.discontinuity, tracks, message.media_us, message.unix_us)


def parse_to_edge_untrusted(kind: int, body: memoryview) -> "ToEdge | Marked":
    """What a parent says. Raises WireError."""
    if kind != CONTROL:
        return _parse_packet(kind, body)
    message = _parse(_to_edge, body)
    if isinstance(message, Describe):
        _check_tracks(message.tracks)
    elif isinstance(message, State) and message.state is StreamState.ENDED:
        raise WireError("a parent says 'ended' where it should say End")
    return message


def parse_to_parent_untrusted(kind: int, body: memoryview) -> ToParent:
    """What an edge says. Raises WireError."""
    if kind != CONTROL:
        raise WireError("an edge sends a packet")
    return _parse(_to_parent, body)


def _parse_packet(kind: int, body: memoryview) -> Marked:
    size = len(body) - MARKS.size
    if size < 0 or (kind == HOLLOW and size != HASH_BYTES):
        raise WireError(f"a packet of {len(body)} bytes is cut")
    marks, data = bytes(body[: MARKS.size]), bytes(body[MARKS.size :])
    flags, track, segment, part, discontinuity, group, dts, cts, duration = MARKS.unpack(marks)
    if flags > KEYFRAME or segment > NUMBER_MAX or group > NUMBER_MAX or dts > TICKS_MAX:
        raise WireError("a packet's marks are out of range")
    if cts > FIELD_MAX or duration > FIELD_MAX:
        raise WireError("a packet's times are out of range")
    hollow = kind == HOLLOW
    return Marked(
        marks, flags == KEYFRAME, track, segment, part, discontinuity, group, dts, cts, duration,
        None if hollow else data, data if hollow else sha256(data).digest(),
    )  # fmt: skip


class FrameReader(Generic[Parsed]):
    """Cuts a byte stream into messages, whatever its chunks. Holds at most one frame that is not whole."""

    def __init__(
        self, parse: Callable[[int, memoryview], Parsed], bytes_max: int = PACKET_BYTES_MAX + MARKS.size
    ) -> None:
        """`parse` is one of the two `parse_*_untrusted`; a parent reads with TO_PARENT_BYTES_MAX."""
        self._parse = parse
        self._bytes_max = bytes_max
        self._held = bytearray()  # of the frame that is not whole
        self._needed = 0  # bytes that it takes, as far as they are known

    def feed(self, data: bytes) -> Iterator[Parsed]:
        """The messages that are whole now, in turn. Raises WireError, and is of no more use then."""
        held = self._held
        if held:
            held += data
            if len(held) < self._needed:
                return
            data = bytes(held)
            held.clear()
        view = memoryview(data)
        position, end = 0, len(data)
        self._needed = _PREFIX.size
        try:
            while end - position >= _PREFIX.size:
                length, kind = _PREFIX.unpack_from(data, position)
                _check_frame(length, kind, self._bytes_max)
                stop = position + LENGTH_BYTES + length
                if stop > end:
                    self._needed = stop - position
                    break
                body = view[position + _PREFIX.size : stop]
                position = stop
                yield self._parse(kind, body)
        finally:
            if position < end:
                held += view[position:]


def _check_frame(length: int, kind: int, bytes_max: int) -> None:
    if kind > HOLLOW:
        raise WireError(f"there is no kind {kind} of frame")
    most = min(bytes_max, CONTROL_BYTES_MAX if kind == CONTROL else PACKET_BYTES_MAX + MARKS.size)
    if not 1 <= length <= most + 1:
        raise WireError(f"a frame of {length} bytes")


def _parse(decoder: "msgspec.msgpack.Decoder[Parsed]", body: memoryview) -> Parsed:
    if len(body) > CONTROL_BYTES_MAX:
        raise WireError(f"a message of {len(body)} bytes")
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise WireError(f"not a replication message: {error}") from None


def _check_tracks(tracks: Sequence[TrackEntry]) -> None:
    """Ids differ, video stands first, audio has a rate: packaging relies on it."""
    order = [(track.codec.kind is not Kind.VIDEO, track.id) for track in tracks]
    if any(before >= after for before, after in itertools.pairwise(order)):
        raise WireError("a section's tracks are not in order")
    if len({track.id for track in tracks}) != len(tracks):
        raise WireError("two tracks have one id")
    for track in tracks:
        if track.codec.kind is Kind.AUDIO and not track.sample_rate:
            raise WireError(f"audio track {track.id} has no sample rate")

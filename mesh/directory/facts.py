"""What is inside records: one struct for each kind. All fields are their owner's claims."""

from typing import Annotated, TypeAlias, TypeVar

import msgspec
from msgspec import Meta

from mesh.directory.record import Kind
from mesh.errors import WireError
from mesh.membership.message import Node
from mesh.model import KEY_BYTES, SIGNATURE_BYTES, Role

STREAMS_MAX = 64  # streams in one record
CANDIDATES_MAX = 16  # addresses of one node
PATTERNS_MAX = 16  # of streams that a node serves for others
RELAYS_MAX = 3  # standby relays of one node
ENGINES_MAX = 16  # encoders that work on one node
REPORTS_MAX = 8  # liars that one node tells of: 450 bytes each, and two signatures to check
MESSAGE_BYTES_MAX = 256  # what an origin signs of a part
HASH_BYTES = 32  # SHA-256
CLAIM_BYTES_MAX = 4 * 1024  # a chain of claims, opaque here
DOORS_MAX = 8  # base URLs of one node: each scheme by name and by both families of addresses
DOOR_CHARACTERS_MAX = 128
LOAD_CHANGE = 0.1  # a change of a tenth is worth telling

Text: TypeAlias = Annotated[str, Meta(max_length=128)]
Count: TypeAlias = Annotated[int, Meta(ge=0, le=2**53)]
Share: TypeAlias = Annotated[float, Meta(ge=0.0, le=1.0)]
Signature: TypeAlias = Annotated[bytes, Meta(min_length=SIGNATURE_BYTES, max_length=SIGNATURE_BYTES)]
# A scheme, a host and perhaps a port: it is put before paths, and into header fields.
Door: TypeAlias = Annotated[
    str,
    Meta(
        max_length=DOOR_CHARACTERS_MAX,
        pattern=r"\A(https?|rtmps?)://([A-Za-z0-9][A-Za-z0-9.-]*|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?\Z",
    ),
]
KeyOrNone: TypeAlias = Annotated[bytes, Meta(max_length=KEY_BYTES)]


class Who(msgspec.Struct, array_like=True, frozen=True):
    """Name for people, version of the program, roles, and the chain of claims that proves membership."""

    name: Text
    version: Text
    roles: Annotated[list[Role], Meta(max_length=8)]
    claim: Annotated[bytes, Meta(max_length=CLAIM_BYTES_MAX)] = b""


class Where(msgspec.Struct, array_like=True, frozen=True):
    """Addresses to try ("host:port", best first), and whether they can be dialled: "open" or "closed".

    `relays` are the members that hold a link to it so that others reach it through them, `udp` is what it
    found out about its NAT (`mesh.nat.facts.encode_facts`), `mapped` an address that its router opened.
    """

    candidates: Annotated[list[Text], Meta(max_length=CANDIDATES_MAX)]
    nat: Text = ""
    relays: Annotated[list[Node], Meta(max_length=RELAYS_MAX)] = []
    udp: Text = ""
    mapped: Text = ""


class Load(msgspec.Struct, array_like=True, frozen=True):
    """How busy the node is. `uplink_budget_bps` 0: no limit set; `cpu`: share of all cores.

    `standing` is why nobody new is let in ("draining", "paused", "quiet", "volume"), empty when viewers may
    come; `streams` are patterns (* for anything) of the other nodes' streams that it serves, none: all.
    """

    uplink_bps: Count
    uplink_budget_bps: Count
    cpu: Share
    viewers: Count
    sessions: Count
    reservations: Count
    standing: Text = ""
    streams: Annotated[list[Text], Meta(max_length=PATTERNS_MAX)] = []


class Resume(msgspec.Struct, array_like=True, frozen=True):
    """The numbers with which a stream goes on that nobody publishes now, as media.track.continuation."""

    segment: Count
    discontinuity: Count
    group: Count
    init: Count
    media_us: Count
    unix_us: Count
    target_duration_us: Count


class CarriedStream(msgspec.Struct, array_like=True, frozen=True):
    """One stream: ingested here (`depth` 0) or taken from a parent, that many hops from the origin.

    `origin` is the node that ingests it and `parent` the one it is taken from. Both are left out where they
    say nothing new, as forty bytes a stream count in a record: the origin at depth 0 is the record's owner,
    the parent at depth 1 is the origin. `bitrate_bps` is that of all its tracks; 0: not known. `resume` is
    told only while the stream rests: its publisher went, or an edge has nobody to take it from.
    """

    name: Text
    epoch_unix_us: Count
    depth: Annotated[int, Meta(ge=0, le=64)]
    tracks: Annotated[list[Text], Meta(max_length=16)]
    origin: KeyOrNone = b""
    parent: KeyOrNone = b""
    bitrate_bps: Count = 0
    resume: Resume | None = None


class CarriedStreams(msgspec.Struct, array_like=True, frozen=True):
    """All streams of a node."""

    streams: Annotated[list[CarriedStream], Meta(max_length=STREAMS_MAX)]


class Transcode(msgspec.Struct, array_like=True, frozen=True):
    """Encoders found to work, and how many renditions of 720p30 could be made more now."""

    engines: Annotated[list[Text], Meta(max_length=ENGINES_MAX)]
    free: Count


class Place(msgspec.Struct, array_like=True, frozen=True):
    """Degrees, how they were found ("configured", "city", "country"), and the country's code."""

    latitude: Annotated[float, Meta(ge=-90.0, le=90.0)]
    longitude: Annotated[float, Meta(ge=-180.0, le=180.0)]
    source: Text
    country: Annotated[str, Meta(max_length=2)] = ""


class Report(msgspec.Struct, array_like=True, frozen=True):
    """A member that passed on what a stream's origin did not sign, with what proves it to everybody.

    `message` and `signature` are what `liar` said that `origin` signed, `found` the digest of the packets
    that it sent, `vouch` its own signature over all of that. Opaque here.
    """

    liar: Node
    origin: Node
    message: Annotated[bytes, Meta(max_length=MESSAGE_BYTES_MAX)]
    signature: Signature
    found: Annotated[bytes, Meta(min_length=HASH_BYTES, max_length=HASH_BYTES)]
    vouch: Signature


class Reports(msgspec.Struct, array_like=True, frozen=True):
    """What a node found out itself, the newest."""

    reports: Annotated[list[Report], Meta(max_length=REPORTS_MAX)]


class Doors(msgspec.Struct, array_like=True, frozen=True):
    """Base URLs at which viewers and publishers, who are no members, reach the node; best first of a scheme.

    `public` can be opened by anybody, `lan` from the node's own network. `closed`: why nobody shall be sent
    there now ("draining", "paused"), "" when they may; a word that is not known keeps them away as well.
    """

    public: Annotated[list[Door], Meta(max_length=DOORS_MAX)]
    lan: Annotated[list[Door], Meta(max_length=DOORS_MAX)] = []
    closed: Annotated[str, Meta(max_length=32)] = ""


Fact: TypeAlias = Who | Where | Load | CarriedStreams | Transcode | Place | Reports | Doors
F = TypeVar("F", Who, Where, Load, CarriedStreams, Transcode, Place, Reports, Doors)

KINDS: dict[type, Kind] = {
    Who: Kind.WHO,
    Where: Kind.WHERE,
    Load: Kind.LOAD,
    CarriedStreams: Kind.STREAMS,
    Transcode: Kind.TRANSCODE,
    Place: Kind.PLACE,
    Reports: Kind.REPORTS,
    Doors: Kind.DOORS,
}
_decoders: dict[type, msgspec.msgpack.Decoder[Fact]] = {
    shape: msgspec.msgpack.Decoder(shape) for shape in KINDS
}
_encoder = msgspec.msgpack.Encoder()


def payload(fact: Fact) -> bytes:
    """What to publish: `gossip.publish(KINDS[type(fact)], payload(fact), now)`."""
    return _encoder.encode(fact)


def parse_fact_untrusted(shape: type[F], data: bytes) -> F:
    """The fact in a record's payload; raises WireError."""
    try:
        fact = _decoders[shape].decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise WireError(f"not a record of {KINDS[shape].name.lower()}: {error}") from None
    assert isinstance(fact, shape)
    return fact


def is_other_transcode(told: Transcode | None, now: Transcode) -> bool:
    """Whether engines came or went, all room did, or free capacity changed by LOAD_CHANGE."""
    if told is None or told.engines != now.engines or bool(told.free) != bool(now.free):
        return True
    return abs(now.free - told.free) > LOAD_CHANGE * max(told.free, now.free)


def is_worth_telling(told: Load | None, now: Load) -> bool:
    """Whether load changed by LOAD_CHANGE of what was told, or of the whole where there is a whole."""
    if told is None:
        return True
    if (now.standing, now.streams) != (told.standing, told.streams):
        return True
    if abs(now.cpu - told.cpu) >= LOAD_CHANGE or now.uplink_budget_bps != told.uplink_budget_bps:
        return True
    whole = now.uplink_budget_bps or max(told.uplink_bps, now.uplink_bps)
    if abs(now.uplink_bps - told.uplink_bps) > LOAD_CHANGE * whole:
        return True
    return any(
        abs(new - old) > LOAD_CHANGE * max(old, new)
        for old, new in (
            (told.viewers, now.viewers),
            (told.sessions, now.sessions),
            (told.reservations, now.reservations),
        )
    )

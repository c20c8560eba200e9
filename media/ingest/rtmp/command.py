"""RTMP commands and what they carry. Pure. RTMP 1.0 7.2; Enhanced RTMP v2, "Enhancing NetConnection"."""

import math
from collections.abc import Mapping
from urllib.parse import parse_qsl, unquote

import msgspec

from media.container import amf
from media.container.amf import Value
from media.container.flv import FOURCC
from media.errors import WireError
from media.track.model import Codec, Kind

MAX_TEXT = 1024  # characters kept of a name, an address or an agent that a client gives

# CapsExMask: what we can do with Enhanced RTMP's extensions, all four of them.
CAPS_RECONNECT, CAPS_MULTITRACK, CAPS_MOD_EX, CAPS_NANO_OFFSET = 1, 2, 4, 8
CAPS = CAPS_RECONNECT | CAPS_MULTITRACK | CAPS_MOD_EX | CAPS_NANO_OFFSET
_CAN_DECODE, _CAN_FORWARD = 1, 4  # FourCcInfoMask
_ANY = "*"


class Command(msgspec.Struct, frozen=True):
    """A command message."""

    name: str
    transaction: float  # 0 when no answer is expected
    object: Mapping[str, Value]  # the command object, empty for null
    arguments: list[Value]
    stream_id: int

    def text(self, index: int) -> str:
        """The argument at `index` if it is a string, else nothing."""
        value = self.arguments[index] if index < len(self.arguments) else None
        return value[:MAX_TEXT] if isinstance(value, str) else ""

    def number(self, index: int) -> float:
        value = self.arguments[index] if index < len(self.arguments) else None
        return value if isinstance(value, float) and math.isfinite(value) else 0.0


class ConnectInfo(msgspec.Struct, frozen=True):
    """What a client says of itself in its connect command."""

    app: str
    tc_url: str
    agent: str
    codecs: frozenset[Codec] | None  # that it can take by FourCC; None when it says nothing of that
    caps: int  # CapsExMask
    enhanced: bool  # it said something that only Enhanced RTMP has


class Address(msgspec.Struct, frozen=True):
    """What a client wants to publish or play."""

    stream: str
    key: str
    token: str


def parse_command_untrusted(payload: bytes, stream_id: int, *, amf3: bool) -> Command:
    """A command message of type 20, or of type 17 when `amf3`. Raises WireError."""
    # Type 17 begins with a format byte, after which values are AMF0 that switches to AMF3 by marker.
    values = amf.decode_untrusted(payload, 1 if amf3 and payload[:1] == b"\0" else 0)
    if not values or not isinstance(values[0], str):
        raise WireError("RTMP command without a name")
    transaction = values[1] if len(values) > 1 else 0.0
    if not isinstance(transaction, float) or not math.isfinite(transaction):
        transaction = 0.0
    given = values[2] if len(values) > 2 else None
    return Command(values[0], transaction, given if isinstance(given, dict) else {}, values[3:], stream_id)


def connect_info(command: Command) -> ConnectInfo:
    """The parts of a connect command that matter here."""
    given = command.object
    fourccs = _fourccs(given)
    codecs = None
    if fourccs is not None:
        codecs = frozenset(
            codec for codec in Codec if _ANY in fourccs or FOURCC[codec].decode().lower() in fourccs
        )
    caps = given.get("capsEx")
    return ConnectInfo(
        app=_text(given.get("app")),
        tc_url=_text(given.get("tcUrl")),
        agent=_text(given.get("flashVer")),
        codecs=codecs,
        caps=int(caps) if isinstance(caps, float) and 0 <= caps < 1 << 31 else 0,
        enhanced=fourccs is not None or caps is not None,
    )


def address(name: str, info: ConnectInfo) -> Address:
    """Stream, key and token from a stream name such as `news?key=K`, and from the connect command.

    A query on the name wins over one on the application, where some clients put it. Without a
    name, the second part of the application's path is the stream.
    """
    path, _, query = name.partition("?")
    app, _, app_query = info.app.partition("?")
    fields = dict(parse_qsl(info.tc_url.partition("?")[2]))
    fields.update(parse_qsl(app_query))
    fields.update(parse_qsl(query))
    stream = unquote(path).strip("/") or unquote(app).strip("/").partition("/")[2]
    return Address(stream, fields.get("key", ""), fields.get("token", ""))


def result(command: Command, *values: Value) -> bytes:
    """The answer to a command that asked for one."""
    return amf.encode("_result", command.transaction, *values)


def failure(command: Command, description: str) -> bytes:
    return amf.encode(
        "_error", command.transaction, None, _info("error", "NetConnection.Call.Failed", description)
    )


def connected(command: Command, info: ConnectInfo) -> bytes:
    """The answer to connect."""
    properties: dict[str, Value] = {"fmsVer": "FMS/4,5,0,297", "capabilities": 255.0, "mode": 1.0}
    status = _info("status", "NetConnection.Connect.Success", "Connection succeeded.")
    # We read both encodings; saying 0 asks the client to keep to the simpler one.
    status["objectEncoding"] = 0.0
    if info.enhanced:
        # The standard does not say which of the two objects it means.
        properties |= _ENHANCED
        status |= _ENHANCED
    return amf.encode("_result", command.transaction, properties, status)


def status(level: str, code: str, description: str, **more: Value) -> bytes:
    """An onStatus command; `level` is status, warning or error."""
    return amf.encode("onStatus", 0.0, None, _info(level, code, description) | more)


def _info(level: str, code: str, description: str) -> dict[str, Value]:
    return {"level": level, "code": code, "description": description}


def _fourccs(given: Mapping[str, Value]) -> set[str] | None:
    """Lower-case FourCCs that the client can take; None when it names none."""
    found: set[str] | None = None
    listed = given.get("fourCcList")
    if isinstance(listed, list):
        found = {entry.lower() for entry in listed if isinstance(entry, str)}
    for kind in Kind:
        flags = given.get(f"{kind}FourCcInfoMap")
        if isinstance(flags, dict):
            found = found or set()
            for fourcc, mask in flags.items():
                if (
                    isinstance(mask, float)
                    and math.isfinite(mask)
                    and int(mask) & (_CAN_DECODE | _CAN_FORWARD)
                ):
                    found.add(fourcc.lower())
    return found


def _text(value: Value) -> str:
    return value[:MAX_TEXT] if isinstance(value, str) else ""


def _forwarded(kind: Kind) -> dict[str, Value]:
    return {FOURCC[codec].decode(): _CAN_FORWARD for codec in Codec if codec.kind is kind}


_ENHANCED: dict[str, Value] = {
    "fourCcList": [FOURCC[codec].decode() for codec in Codec],
    "videoFourCcInfoMap": _forwarded(Kind.VIDEO),
    "audioFourCcInfoMap": _forwarded(Kind.AUDIO),
    "capsEx": CAPS,
}

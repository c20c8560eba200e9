"""Port Control Protocol, the client's side of MAP and ANNOUNCE over IPv4 (RFC 6887). Pure."""

import ipaddress
import struct
from dataclasses import dataclass

from mesh.errors import WireError
from mesh.nat.portmap.model import Alive, Answer, Content, Mapped, Refusal, Removed, Transport

VERSION = 2
ANNOUNCE, MAP = 0, 1
RESPONSE = 0x80
SUCCESS, UNSUPPORTED_VERSION = 0, 1
MESSAGE_BYTES_MAX = 1100  # RFC 6887 7
HEADER_BYTES, MAP_BYTES = 24, 36
NONCE_BYTES = 12
OPTIONS_MAX = 16  # a response may carry a handful; the rest is noise

_REQUEST = struct.Struct("!BBHI16s")  # version, opcode, reserved, lifetime, client address
_RESPONSE = struct.Struct("!BBBBII12s")  # version, R and opcode, reserved, result, lifetime, epoch, reserved
_MAP = struct.Struct("!12sB3xHH16s")  # nonce, protocol, internal port, external port, external address
_OPTION = struct.Struct("!BBH")  # code, reserved, length of the data, which is padded to 4

# RFC 6887 7.4, as people read it.
RESULTS = {
    1: "it does not speak this version",
    2: "it does not allow it",
    3: "it calls the request malformed",
    4: "it does not know the operation",
    5: "it does not know an option",
    6: "it calls an option malformed",
    7: "its own network is down",
    8: "it has no resources left",
    9: "it does not map this transport",
    10: "its quota for this host is used up",
    11: "it cannot give that address and port",
    12: "another NAT is between it and this host",
    13: "there are too many remote peers",
}


@dataclass(frozen=True, slots=True)
class MapResponse:
    """The fields after the header of a MAP response (RFC 6887 11.1)."""

    nonce: bytes
    protocol: int
    internal_port: int
    external_port: int
    external_host: str  # "" when it is no IPv4 address


@dataclass(frozen=True, slots=True)
class Response:
    """One response (RFC 6887 7.2). `map` is None for other opcodes."""

    opcode: int
    result: int
    lifetime_s: int
    epoch_s: int
    map: MapResponse | None


def encode_map(
    client: str,
    nonce: bytes,
    transport: Transport,
    port: int,
    lifetime_s: int,
    suggested_port: int = 0,
    suggested_host: str = "0.0.0.0",
) -> bytes:
    """A MAP request (RFC 6887 11.1). A lifetime of 0 removes the mapping. `client`: this host's address."""
    suggested = 0 if lifetime_s == 0 else suggested_port
    host = _mapped("0.0.0.0" if lifetime_s == 0 else suggested_host)
    return _header(MAP, lifetime_s, client) + _MAP.pack(nonce, transport, port, suggested, host)


def encode_announce(client: str) -> bytes:
    """An ANNOUNCE request: the server answers with its epoch (RFC 6887 14.1.2)."""
    return _header(ANNOUNCE, 0, client)


def parse_response_untrusted(data: bytes) -> Response:
    """What a server sent; raises WireError. Options are checked for their bounds and left out."""
    if not HEADER_BYTES <= len(data) <= MESSAGE_BYTES_MAX or len(data) % 4:
        raise WireError(f"a PCP response of {len(data)} bytes")
    version, kind, _, result, lifetime_s, epoch_s, _ = _RESPONSE.unpack_from(data)
    if version != VERSION:
        raise WireError(f"PCP version {version}")
    if not kind & RESPONSE:
        raise WireError("a PCP request where a response was expected")
    opcode = kind & ~RESPONSE
    if opcode != MAP:
        return Response(opcode, result, lifetime_s, epoch_s, None)
    if len(data) < HEADER_BYTES + MAP_BYTES:
        # An error about a request that the server could not read need not carry it back.
        if result == SUCCESS:
            raise WireError("a PCP MAP response without its mapping")
        return Response(opcode, result, lifetime_s, epoch_s, None)
    nonce, protocol, internal, external, host = _MAP.unpack_from(data, HEADER_BYTES)
    _check_options(data, HEADER_BYTES + MAP_BYTES)
    return Response(
        opcode, result, lifetime_s, epoch_s, MapResponse(nonce, protocol, internal, external, _plain(host))
    )


@dataclass(frozen=True, slots=True)
class Pcp:
    """What one client says in PCP and how it reads the answers."""

    client: str  # this host's address towards the gateway
    port: int  # the internal one
    nonce: bytes  # the same for as long as this node keeps the port: it is the right to renew and remove

    name = "pcp"

    def map(self, transport: Transport, lease_s: int, port: int, host: str) -> bytes:
        """Ask for or renew a mapping; `port` and `host` are what it should have outside."""
        return encode_map(self.client, self.nonce, transport, self.port, lease_s, port, host or "0.0.0.0")

    def remove(self, transport: Transport) -> bytes:
        """Remove it."""
        return encode_map(self.client, self.nonce, transport, self.port, 0)

    def look(self) -> bytes:
        """A question whose answer carries the epoch and changes nothing."""
        return encode_announce(self.client)

    def parse_untrusted(self, data: bytes) -> Answer:
        """Raises WireError also for answers to somebody else's requests."""
        if len(data) >= 4 and data[0] != VERSION and data[1] & RESPONSE and data[3] == UNSUPPORTED_VERSION:
            return Answer(Refusal(None, RESULTS[UNSUPPORTED_VERSION], version=True), None)
        response = parse_response_untrusted(data)
        return Answer(self._content(response), response.epoch_s)

    def _content(self, response: Response) -> Content:
        found = response.map
        transport = None if found is None else self._transport_untrusted(found)
        if response.result != SUCCESS:
            reason = RESULTS.get(response.result, f"error {response.result}")
            return Refusal(
                transport,
                reason,
                look=response.opcode == ANNOUNCE,
                version=response.result == UNSUPPORTED_VERSION,
                retry_after_s=float(response.lifetime_s),
            )
        if found is None or transport is None:
            return Alive()
        if response.lifetime_s == 0:
            return Removed(transport, found.internal_port)
        if not found.external_port:
            raise WireError("a PCP mapping to no port")
        lease_s = float(response.lifetime_s)
        return Mapped(transport, found.internal_port, found.external_port, found.external_host, lease_s)

    def _transport_untrusted(self, found: MapResponse) -> Transport:
        if found.nonce != self.nonce or found.internal_port != self.port:
            raise WireError("a PCP response about a mapping of somebody else")
        if found.protocol not in (Transport.TCP, Transport.UDP):
            raise WireError(f"a PCP response about protocol {found.protocol}")
        return Transport(found.protocol)


def _header(opcode: int, lifetime_s: int, client: str) -> bytes:
    return _REQUEST.pack(VERSION, opcode, 0, lifetime_s, _mapped(client))


def _mapped(host: str) -> bytes:
    """An IPv4 address as an IPv4-mapped IPv6 one (RFC 6887 5)."""
    return bytes(10) + b"\xff\xff" + ipaddress.IPv4Address(host).packed


def _plain(packed: bytes) -> str:
    mapped = ipaddress.IPv6Address(packed).ipv4_mapped
    return "" if mapped is None else str(mapped)


def _check_options(data: bytes, at: int) -> None:
    """Raises WireError when an option ends after the message (RFC 6887 7.3)."""
    for _ in range(OPTIONS_MAX):
        if at == len(data):
            return
        _, _, length = _OPTION.unpack_from(data, at)  # both ends are multiples of 4
        at += _OPTION.size + -(-length // 4) * 4
        if at > len(data):
            raise WireError("a PCP option is cut off")
    if at != len(data):
        raise WireError("too many PCP options")

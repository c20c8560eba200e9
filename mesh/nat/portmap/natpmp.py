"""NAT Port Mapping Protocol, the client's side (RFC 6886). Pure."""

import ipaddress
import struct
from dataclasses import dataclass

from mesh.errors import WireError
from mesh.nat.portmap.model import Alive, Answer, Content, ExternalHost, Mapped, Refusal, Removed, Transport

VERSION = 0
ADDRESS = 0  # opcodes: RFC 6886 3.2, 3.3
OPCODES = {Transport.UDP: 1, Transport.TCP: 2}
RESPONSE = 0x80
SUCCESS, UNSUPPORTED_VERSION = 0, 1
RESPONSE_BYTES_MAX = 64  # the longest known one has 16: room for what a later version may add

_ADDRESS_REQUEST = struct.Struct("!BB")
_MAP_REQUEST = struct.Struct("!BBHHHI")  # version, opcode, reserved, internal, suggested external, lifetime
_HEADER = struct.Struct("!BBHI")  # version, opcode, result, epoch
_ADDRESS_RESPONSE = struct.Struct("!4s")
_MAP_RESPONSE = struct.Struct("!HHI")  # internal port, external port, lifetime

# RFC 6886 3.5, as people read it.
RESULTS = {
    1: "it does not speak this version",
    2: "it does not allow it",
    3: "its own network is down",
    4: "it has no resources left",
    5: "it does not know the operation",
}


@dataclass(frozen=True, slots=True)
class MapResponse:
    """The fields after the header of a response to a mapping request (RFC 6886 3.3)."""

    internal_port: int
    external_port: int
    lifetime_s: int


@dataclass(frozen=True, slots=True)
class Response:
    """One response. `body`: a mapping, the external address, or None in errors and for other opcodes."""

    opcode: int
    result: int
    epoch_s: int
    body: MapResponse | str | None


def encode_address_request() -> bytes:
    """Ask for the external address (RFC 6886 3.2)."""
    return _ADDRESS_REQUEST.pack(VERSION, ADDRESS)


def encode_map(transport: Transport, port: int, lifetime_s: int, suggested_port: int = 0) -> bytes:
    """Ask for a mapping (RFC 6886 3.3); with a lifetime of 0 to remove it (3.4)."""
    suggested = 0 if lifetime_s == 0 else suggested_port
    return _MAP_REQUEST.pack(VERSION, OPCODES[transport], 0, port, suggested, lifetime_s)


def parse_response_untrusted(data: bytes) -> Response:
    """What a gateway sent; raises WireError."""
    if not _HEADER.size <= len(data) <= RESPONSE_BYTES_MAX:
        raise WireError(f"a NAT-PMP response of {len(data)} bytes")
    version, kind, result, epoch_s = _HEADER.unpack_from(data)
    if version != VERSION:
        raise WireError(f"NAT-PMP version {version}")
    if not kind & RESPONSE:
        raise WireError("a NAT-PMP request where a response was expected")
    opcode = kind & ~RESPONSE
    if result != SUCCESS:
        return Response(opcode, result, epoch_s, None)
    if opcode == ADDRESS:
        if len(data) < _HEADER.size + _ADDRESS_RESPONSE.size:
            raise WireError("a NAT-PMP address response without an address")
        (packed,) = _ADDRESS_RESPONSE.unpack_from(data, _HEADER.size)
        return Response(opcode, result, epoch_s, str(ipaddress.IPv4Address(packed)))
    if opcode in OPCODES.values():
        if len(data) < _HEADER.size + _MAP_RESPONSE.size:
            raise WireError("a NAT-PMP mapping response without its mapping")
        return Response(opcode, result, epoch_s, MapResponse(*_MAP_RESPONSE.unpack_from(data, _HEADER.size)))
    return Response(opcode, result, epoch_s, None)


@dataclass(frozen=True, slots=True)
class NatPmp:
    """What one client says in NAT-PMP and how it reads the answers."""

    port: int  # the internal one

    name = "nat-pmp"

    def map(self, transport: Transport, lease_s: int, port: int, host: str) -> bytes:
        """Ask for or renew a mapping; `port` is what it should have outside. A host cannot be asked for."""
        return encode_map(transport, self.port, lease_s, port)

    def remove(self, transport: Transport) -> bytes:
        """Remove it."""
        return encode_map(transport, self.port, 0)

    def look(self) -> bytes:
        """A question whose answer carries the epoch and the external address, and changes nothing."""
        return encode_address_request()

    def parse_untrusted(self, data: bytes) -> Answer:
        """Raises WireError also for answers to somebody else's requests."""
        response = parse_response_untrusted(data)
        return Answer(self._content(response), response.epoch_s)

    def _content(self, response: Response) -> Content:
        transport = next((key for key, value in OPCODES.items() if value == response.opcode), None)
        if response.result != SUCCESS:
            reason = RESULTS.get(response.result, f"error {response.result}")
            look = response.opcode == ADDRESS
            return Refusal(transport, reason, look, version=response.result == UNSUPPORTED_VERSION)
        body = response.body
        if isinstance(body, str):
            return ExternalHost(body)
        if body is None or transport is None:
            return Alive()
        if body.internal_port != self.port:
            raise WireError("a NAT-PMP response about a mapping of somebody else")
        if body.lifetime_s == 0:
            return Removed(transport, body.internal_port)
        if not body.external_port:
            raise WireError("a NAT-PMP mapping to no port")
        return Mapped(transport, body.internal_port, body.external_port, "", float(body.lifetime_s))

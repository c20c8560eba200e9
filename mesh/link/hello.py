"""What two nodes say to each other right after TLS: who they are, and why not. Pure.

The server shows its chain and a nonce; the client, once it believes the server, shows its own chain and signs
the nonce with both keys in it, so that what it signs for one node is of no use with another. The server
answers with a verdict. Either side's reason reaches the other.

Each message is a length of four bytes, big endian, and MessagePack. Fields that a newer minor version adds
at the end are skipped.
"""

from typing import Annotated, TypeVar

import msgspec

from mesh.errors import WireError
from mesh.identity.claim import CHAIN_BYTES_MAX
from mesh.identity.wire import Signature, encode
from mesh.link.text import one_line
from mesh.model import NetworkId, NodeId

HELLO_BYTES_MAX = 8 << 10  # the longest client hello has about 3.5 kB
LENGTH_BYTES = 4
NONCE_BYTES = 32
TEXT_LENGTH_MAX = 64  # "fwnode 0.1.0", an address with a scope
REASON_LENGTH_MAX = 200
ARGUMENT_BYTES_MAX = 1024
CHALLENGE_PREFIX = b"fwnode challenge 1\0"

Text = Annotated[str, msgspec.Meta(max_length=TEXT_LENGTH_MAX)]
Reason = Annotated[str, msgspec.Meta(max_length=REASON_LENGTH_MAX)]
ChainBytes = Annotated[bytes, msgspec.Meta(max_length=CHAIN_BYTES_MAX)]


class ServerHello(msgspec.Struct, frozen=True, array_like=True):
    """The server, first."""

    version: Annotated[int, msgspec.Meta(ge=0, le=9999)]
    program: Text
    chain: ChainBytes
    nonce: Annotated[bytes, msgspec.Meta(min_length=NONCE_BYTES, max_length=NONCE_BYTES)]
    observed: Text  # "host:port" of the client as the server sees it, "" over a relay


class ClientHello(msgspec.Struct, frozen=True, array_like=True, tag="hello"):
    """The client's answer, when it believes the server."""

    program: Text
    chain: ChainBytes
    signature: Signature
    purpose: Text
    argument: Annotated[bytes, msgspec.Meta(max_length=ARGUMENT_BYTES_MAX)]
    observed: Text  # "host:port" of the server as the client sees it


class ClientRefusal(msgspec.Struct, frozen=True, array_like=True, tag="refusal"):
    """The client's answer otherwise."""

    reason: Reason


class Verdict(msgspec.Struct, frozen=True, array_like=True):
    """The server, last."""

    ok: bool
    reason: Reason


T = TypeVar("T")
_server_hellos = msgspec.msgpack.Decoder(ServerHello)
_answers = msgspec.msgpack.Decoder(ClientHello | ClientRefusal)
_verdicts = msgspec.msgpack.Decoder(Verdict)


class HelloReader:
    """Takes one message apart, reading no byte beyond it."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._size = LENGTH_BYTES

    @property
    def wanted(self) -> int:
        """How many bytes to read next, at most. Zero when the message is complete."""
        return self._size - len(self._data)

    def feed(self, data: bytes) -> bytes | None:
        """The message when it is complete. At most `wanted` bytes. Raises WireError when it is too long."""
        assert len(data) <= self.wanted
        self._data += data
        if self._size == LENGTH_BYTES and not self.wanted:
            size = int.from_bytes(self._data, "big")
            if not 0 < size <= HELLO_BYTES_MAX:
                raise WireError(f"a greeting of {size} bytes, 1 to {HELLO_BYTES_MAX} are allowed")
            self._size += size
        return None if self.wanted else bytes(self._data[LENGTH_BYTES:])


def pack(message: ServerHello | ClientHello | ClientRefusal | Verdict) -> bytes:
    """One message with its length before it."""
    body = encode(message)
    assert len(body) <= HELLO_BYTES_MAX
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


def refusal(reason: str) -> ClientRefusal:
    """The client's reason, cut to what fits."""
    return ClientRefusal(one_line(reason, REASON_LENGTH_MAX))


def verdict(reason: str) -> Verdict:
    """The server's answer: welcome when there is no reason against it."""
    return Verdict(not reason, one_line(reason, REASON_LENGTH_MAX))


def parse_server_hello_untrusted(data: bytes) -> ServerHello:
    """Raises WireError. Texts are fit to show."""
    hello = _decode_untrusted(_server_hellos, data, "the server's greeting")
    return ServerHello(hello.version, _text(hello.program), hello.chain, hello.nonce, _text(hello.observed))


def parse_answer_untrusted(data: bytes) -> ClientHello | ClientRefusal:
    """Raises WireError. Texts are fit to show."""
    answer = _decode_untrusted(_answers, data, "the client's greeting")
    if isinstance(answer, ClientRefusal):
        return refusal(answer.reason)
    return ClientHello(
        _text(answer.program),
        answer.chain,
        answer.signature,
        _text(answer.purpose),
        answer.argument,
        _text(answer.observed),
    )


def parse_verdict_untrusted(data: bytes) -> Verdict:
    """Raises WireError. The reason is fit to show."""
    found = _decode_untrusted(_verdicts, data, "the server's verdict")
    return Verdict(found.ok, one_line(found.reason, REASON_LENGTH_MAX))


def challenge(network: NetworkId, nonce: bytes, client: NodeId, server: NodeId) -> bytes:
    """What the client signs."""
    return CHALLENGE_PREFIX + network + nonce + client + server


def _text(text: str) -> str:
    return one_line(text, TEXT_LENGTH_MAX)


def _decode_untrusted(decoder: "msgspec.msgpack.Decoder[T]", data: bytes, what: str) -> T:
    if len(data) > HELLO_BYTES_MAX:
        raise WireError(f"{what}: {len(data)} bytes, at most {HELLO_BYTES_MAX} are allowed")
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise WireError(f"{what}: {error}") from None

"""The greeting on a QUIC connection's first stream, which the server opens together with its handshake.

The messages are those of a TLS connection (`mesh.link.hello`); the same reasons reach both sides.
"""

import secrets
from typing import NoReturn

import trio

from mesh.errors import MeshError, Refused, Unavailable, WireError
from mesh.identity.claim import parse_chain_untrusted
from mesh.link import greeting
from mesh.link.connection.service import RETRY_S, Credentials, LinkRefused
from mesh.link.hello import (
    NONCE_BYTES,
    ClientHello,
    ClientRefusal,
    HelloReader,
    ServerHello,
    Verdict,
    pack,
    parse_answer_untrusted,
    parse_verdict_untrusted,
    refusal,
    verdict,
)
from mesh.link.model import CONTROL, Peer
from mesh.link.quic.header import parse_header_untrusted
from mesh.link.quic.inbox import Stream
from mesh.link.quic.stream.service import Carrier, QuicStream
from mesh.model import NodeId

_NOBODY = Peer(
    node_id=b"",
    name="",
    roles=frozenset(),
    chain=None,  # type: ignore[arg-type]  # nobody sees it: the greeting finds out who it is
    program="",
    clock="",
    remote="",
    observed="",
    dialled=False,
    round_trip_s=0.0,
)


async def greet_as_client(
    own: Credentials,
    carrier: Carrier,
    stream: Stream,
    server: NodeId,
    expect: NodeId | None,
    purpose: str,
    argument: bytes,
) -> QuicStream:
    """Our side of a connection that we dialled; `server` is the key that it has proven.

    Raises LinkRefused, Unavailable; the stream is not closed then.
    """
    raw, remote = _raw(carrier, stream), carrier.machine.path[0]
    try:
        hello, checked = greeting.believe(own, await _receive(raw), server, expect)
    except (Refused, WireError, Unavailable) as error:
        await _tell(raw, refusal(str(error)))
        raise LinkRefused(str(error), by_us=True, node_id=server) from None
    await _send(raw, greeting.client_hello(own, hello, server, purpose, argument, remote))
    try:
        said = parse_verdict_untrusted(await _receive(raw))
    except WireError as error:
        raise LinkRefused(str(error), by_us=True, node_id=server) from None
    if not said.ok:
        raise LinkRefused(said.reason, by_us=False, node_id=server)
    peer = greeting.peer_of(
        checked,
        hello.program,
        hello.observed,
        remote=remote,
        round_trip_s=carrier.machine.round_trip_s,
        dialled=True,
    )
    return QuicStream(carrier, stream, peer, purpose, argument)


async def greet_as_server(own: Credentials, carrier: Carrier, stream: Stream) -> QuicStream:
    """Our side of a connection that a stranger dialled. Raises as `greet_as_client`."""
    raw, remote = _raw(carrier, stream), carrier.machine.path[0]
    nonce = secrets.token_bytes(NONCE_BYTES)
    await _send(raw, greeting.server_hello(own, nonce, remote))
    try:
        answer = parse_answer_untrusted(await _receive(raw))
    except WireError as error:
        await _refuse(raw, error, None)
    if isinstance(answer, ClientRefusal):
        raise LinkRefused(answer.reason, by_us=False)
    shown: NodeId | None = None
    try:
        chain = parse_chain_untrusted(answer.chain)
        shown = chain.node_id
        checked = greeting.prove(own, answer, nonce, chain)
    except (Refused, WireError, Unavailable) as error:
        await _refuse(raw, error, shown)
    await _send(raw, verdict(""))
    peer = greeting.peer_of(
        checked,
        answer.program,
        answer.observed,
        remote=remote,
        round_trip_s=carrier.machine.round_trip_s,
        dialled=False,
    )
    return QuicStream(carrier, stream, peer, answer.purpose, answer.argument)


async def receive_header(carrier: Carrier, stream: Stream, peer: Peer) -> QuicStream:
    """A further stream that a member opened, when it has said what for.

    Raises WireError when that is nonsense; Unavailable when the stream ends before.
    """
    header = parse_header_untrusted(await _receive(_raw(carrier, stream)))
    if header.purpose == CONTROL:
        raise WireError("a further stream that is for nothing")
    return QuicStream(carrier, stream, peer, header.purpose, header.argument)


def _raw(carrier: Carrier, stream: Stream) -> QuicStream:
    return QuicStream(carrier, stream, _NOBODY, CONTROL, b"")


async def _send(raw: QuicStream, message: ServerHello | ClientHello | ClientRefusal | Verdict) -> None:
    try:
        await raw.send_all(pack(message))
    except trio.BrokenResourceError as error:
        raise Unavailable(f"the connection was lost in the handshake: {error}", RETRY_S) from None


async def _tell(raw: QuicStream, message: ClientRefusal | Verdict) -> None:
    try:
        await _send(raw, message)
    except Unavailable:
        pass  # it left without waiting for the reason


async def _refuse(raw: QuicStream, error: MeshError, node_id: NodeId | None) -> NoReturn:
    await _tell(raw, verdict(str(error)))
    raise LinkRefused(str(error), by_us=True, node_id=node_id)


async def _receive(raw: QuicStream) -> bytes:
    """One message. Raises WireError when it is too long; Unavailable when the other side left."""
    reader = HelloReader()
    while True:
        try:
            data = await raw.receive_some(reader.wanted)
        except trio.BrokenResourceError as error:
            raise Unavailable(f"the connection was lost in the handshake: {error}", RETRY_S) from None
        if not data:
            raise Unavailable("the connection was lost in the handshake: closed by the other side", RETRY_S)
        message = reader.feed(data)
        if message is not None:
            return message

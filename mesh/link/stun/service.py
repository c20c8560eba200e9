"""STUN over TCP (RFC 8489 6.2.2): what the mesh's TCP port answers, and asking it for one's outside address.

The connection of a question stays until the asker closes it: its router keeps the mapping meanwhile.
"""

import secrets
import socket

import trio

from mesh.address import show_address
from mesh.errors import Unavailable, WireError
from mesh.nat.answerer import StunAnswerer
from mesh.nat.asking import SOFTWARE
from mesh.nat.stun import (
    HEADER_BYTES,
    TRANSACTION_BYTES,
    encode_binding_request,
    mapped_address,
    message_bytes_untrusted,
    parse_stun_untrusted,
)

HOLD_S = 6.0  # a path is found in half of it, or not at all
HELD_MAX = 256  # connections that are kept for their mapping, a few kB each; more are closed at once
RETRY_S = 5.0


class StreamAnswerer:
    """Answers one question on each connection."""

    def __init__(self, now: float) -> None:
        self.answerer = StunAnswerer(now)
        self._held = 0

    async def answer(self, sock: socket.socket) -> bool:
        """Answer on a non-blocking socket, which stays the caller's. False: it was no question.

        Raises Unavailable when it leaves before or asks what is not answered, OSError.
        """
        try:
            data = await _receive_message(sock)
        except WireError:
            return False
        answer = self.answerer.answer(data, show_address(sock.getpeername()), trio.current_time())
        if answer is None:
            raise Unavailable("it asks too much", RETRY_S)
        sock.send(answer)  # a few bytes on a new connection always fit
        return True

    async def hold(self, sock: socket.socket) -> None:
        """Wait until the asker needs its mapping no more, or for HOLD_S."""
        if self._held >= HELD_MAX:
            return
        self._held += 1
        try:
            with trio.move_on_after(HOLD_S):
                await trio.lowlevel.wait_readable(sock)
        finally:
            self._held -= 1


async def ask(sock: socket.socket) -> str:
    """Where the other end of a connected, non-blocking socket sees this one: numeric "host:port".

    Raises Unavailable when it does not say; the caller sets a deadline.
    """
    transaction = secrets.token_bytes(TRANSACTION_BYTES)
    try:
        sock.send(encode_binding_request(transaction, software=SOFTWARE))
        message = parse_stun_untrusted(await _receive_message(sock))
    except (OSError, WireError) as error:
        raise Unavailable(f"no answer over STUN: {error}", RETRY_S) from None
    mapped = mapped_address(message) if message.transaction == transaction else None
    if mapped is None:
        raise Unavailable("no answer over STUN", RETRY_S)
    return mapped


async def _receive_message(sock: socket.socket) -> bytes:
    head = await _receive(sock, HEADER_BYTES)
    return head + await _receive(sock, message_bytes_untrusted(head) - HEADER_BYTES)


async def _receive(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        try:
            part = sock.recv(size - len(data))
        except BlockingIOError:
            await trio.lowlevel.wait_readable(sock)
            continue
        if not part:
            raise Unavailable("closed by the other side", RETRY_S)
        data += part
    return data

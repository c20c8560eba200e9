"""Dials a relay."""

import socket

import trio

from mesh.address import split_address
from mesh.errors import Refused, Unavailable
from mesh.link.model import TOKEN_BYTES
from mesh.link.relay.book import PREAMBLE

RETRY_S = 5.0  # a relay that does not answer: another one is asked meanwhile


async def dial_relay(address: str, token: bytes) -> socket.socket:
    """A non-blocking connection that the relay at "host:port" splices with the other half of the pair.

    Returns as soon as the token is sent; a token that the relay does not know shows as the end of the
    connection. Raises Unavailable when nobody answers or the address is none; the caller sets a deadline.
    """
    assert len(token) == TOKEN_BYTES
    try:
        host, port = split_address(address)
        stream = await trio.open_tcp_stream(host, port)
    except (Refused, OSError, UnicodeError) as error:  # UnicodeError: a name that IDNA cannot write
        raise Unavailable(f"no connection to the relay {address}: {error}", RETRY_S) from None
    try:
        await stream.send_all(PREAMBLE + token)
    except BaseException as error:
        stream.socket.close()
        if isinstance(error, trio.BrokenResourceError):
            raise Unavailable(f"the relay {address} closed the connection", RETRY_S) from None
        raise
    sock = socket.socket(fileno=stream.socket.detach())
    sock.setblocking(False)
    return sock

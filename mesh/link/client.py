"""Dialling a node."""

import socket

import trio

from mesh.address import split_address
from mesh.errors import Refused, Unavailable
from mesh.link.connection.service import RETRY_S, Credentials, LinkRefused, SecureConnection, secure
from mesh.link.model import CONTROL
from mesh.model import NodeId

CONNECT_S = 10.0  # a name, then three SYNs to each family


async def dial(
    address: str,
    credentials: Credentials,
    *,
    expect: NodeId | None = None,
    purpose: str = CONTROL,
    argument: bytes = b"",
) -> SecureConnection:
    """Connect to "host:port", a name or numeric; of a name the address that answers first (RFC 8305).

    Raises LinkRefused when either side does not want the other; Unavailable when nobody answers.
    """
    try:
        host, port = split_address(address)
    except Refused as error:
        raise LinkRefused(str(error), by_us=True) from None
    sock = await _connect(host, port)
    return await secure(sock, credentials, dialler=True, expect=expect, purpose=purpose, argument=argument)


async def _connect(host: str, port: int) -> socket.socket:
    try:
        with trio.fail_after(CONNECT_S):
            stream = await trio.open_tcp_stream(host, port)
    except trio.TooSlowError:
        raise Unavailable(f"nobody answers at {host} port {port}", RETRY_S) from None
    except (OSError, UnicodeError) as error:  # UnicodeError: a name that IDNA cannot write
        raise Unavailable(str(error), RETRY_S) from None
    return socket.socket(fileno=stream.socket.detach())

"""The socket that other nodes connect to."""

import socket

from fwnode.address import parse_address


def bind_mesh(address: str) -> socket.socket:
    """A TCP socket for links, bound and not yet listening: a node alone answers nobody. Raises OSError."""
    where = parse_address(address)
    found = socket.getaddrinfo(
        where.host or None, where.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    family, kind, protocol, _, bound = found[0]
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(bound)
    except OSError:
        sock.close()
        raise
    return sock

"""The socket that other nodes connect to."""

import socket

from fwnode.address import Address, parse_address

ANY_V4 = "0.0.0.0"
ANY_V6 = "::"


def bind_mesh(address: str) -> socket.socket:
    """A TCP socket for links, bound and not yet listening: a node alone answers nobody.

    "[::]:port" takes IPv4, too, and only that where the system has no IPv6. Raises OSError that names the
    address.
    """
    where = parse_address(address)
    if where.host == ANY_V6 and not socket.has_dualstack_ipv6():
        where = Address(ANY_V4, where.port)
    try:
        family, kind, protocol, _, bound = socket.getaddrinfo(
            where.host or None, where.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except socket.gaierror as error:
        raise OSError(error.errno, f"cannot listen on {address}: {error.strerror}") from error
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if where.host == ANY_V6 else 1)
        sock.bind(bound)
    except OSError as error:
        sock.close()
        raise OSError(error.errno, f"cannot listen on {address}: {error.strerror}") from error
    return sock

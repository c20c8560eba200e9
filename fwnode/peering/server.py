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


def bind_datagrams(address: str) -> list[socket.socket]:
    """UDP sockets of the mesh port, one for each address family. Raises OSError that names the address."""
    where = parse_address(address)
    hosts = [ANY_V4, ANY_V6] if where.host == ANY_V6 else [where.host or ANY_V4]
    bound: list[socket.socket] = []
    try:
        for host in hosts:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            sock = socket.socket(family, socket.SOCK_DGRAM)
            bound.append(sock)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind((host, where.port))
            sock.setblocking(False)
    except OSError as error:
        for sock in bound:
            sock.close()
        raise OSError(error.errno, f"cannot take UDP packets at {address}: {error.strerror}") from error
    return bound

"""Addresses as people write them: "host:port" and "[v6]:port"."""

import ipaddress

MAX_PORT = 65535
IPV6_SITE_BITS = 64  # one subscriber gets at least a /64 (RFC 6177), so a /64 counts as one address


def parse_address(text: str) -> tuple[str, int]:
    """Split "host:port", "[v6]:port" or ":port" (every interface). Raises ValueError with the reason."""
    host, colon, port_text = text.rpartition(":")
    if not colon or not port_text.isascii() or not port_text.isdigit():
        raise ValueError(f"{text!r} is not an address: expected host:port or [v6]:port")
    port = int(port_text)
    if port > MAX_PORT:
        raise ValueError(f"{text!r}: port {port} is above {MAX_PORT}")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"{text!r}: write an IPv6 address in brackets, as [::1]:8080")
    return host or "0.0.0.0", port


def format_address(host: str, port: int) -> str:
    """The inverse of `parse_address`."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def plain_host(host: str) -> str:
    """A peer's numeric address with the IPv6 form of an IPv4 address undone (RFC 4291 2.5.5.2)."""
    if host.startswith("::ffff:") and "." in host:
        return host[7:]
    return host


def counting_key(host: str) -> str:
    """What limits per address count by: the IPv4 address, or the IPv6 /64. "" for this host itself."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if address.is_loopback:
        return ""
    if address.version == 4:
        return host
    return str(ipaddress.ip_network((address, IPV6_SITE_BITS), strict=False))

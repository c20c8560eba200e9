"""Numbers in place of what could name a person. Pure."""

from hashlib import blake2b
from ipaddress import AddressValueError, IPv6Address

SUBNET_BYTES = 8  # of an IPv6 address: one household has a /64 at least


def session_number(name: str) -> int:
    """Stands for a session; the same in every process."""
    return int.from_bytes(blake2b(name.encode("utf-8", "replace"), digest_size=7).digest())


def address_number(host: str) -> int:
    """Stands for a viewer's address, of IPv6 the /64; another one after each start of the program.

    Python's hash of text has a random key for each process.
    """
    if ":" in host:
        try:
            return hash(IPv6Address(host.partition("%")[0]).packed[:SUBNET_BYTES])
        except AddressValueError:
            return hash(host)
    return hash(host)

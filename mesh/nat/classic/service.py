"""The NAT type as pystun3 sees it, by RFC 3489 10.1, kept from doing harm or saying what it cannot know.

pystun3 resends for ever to whoever sends it binding errors, takes an answer from anywhere, calls a router
a full cone when a server merely ignores CHANGE-REQUEST, trips over padded attributes and missing ones, and
tests the filter first, which on some routers spoils the mapping that it tests next. So what it gets for a
socket is a `_Guard`: it sends little, lets only right answers through, rewrites them to what pystun3 can
read, tests the mapping before the filter, and each filter from a socket of its own.
"""

import secrets
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import stun  # type: ignore[import-untyped]  # pystun3 has no type hints
import trio

from mesh.address import host_of, numeric_address, show_address, split_address
from mesh.errors import Unavailable, WireError
from mesh.nat.stun import (
    HEADER_BYTES,
    MAGIC_COOKIE,
    MESSAGE_BYTES_MAX,
    TRANSACTION_BYTES,
    Kind,
    StunMessage,
    mapped_address,
    other_address,
    parse_stun_untrusted,
)

SENDS_MAX = 8  # in all
SENDS_PER_TEST = 2  # pystun3 would send four times
WAIT_S = 0.5  # for an answer; with SENDS_MAX, four seconds in all
DATAGRAMS_MAX = 64  # looked at while waiting for one answer: a flood is not an answer
RETRY_S = 60.0

CHANGE_NOTHING, CHANGE_PORT, CHANGE_BOTH = 0, 2, 6  # RFC 3489 11.2.4

_COOKIE = MAGIC_COOKIE.to_bytes(4, "big")
_WORDS = {  # pystun3's, and RFC 3489's
    "Blocked": "UDP blocked",
    "Open Internet": "open internet",
    "Full Cone": "full cone",
    "Symmetric UDP Firewall": "symmetric UDP firewall",
    "Restric NAT": "restricted cone",
    "Restric Port NAT": "port restricted cone",
    "Symmetric NAT": "symmetric",
}


class Datagrams(Protocol):
    """What is needed of a UDP socket. `recvfrom` raises OSError when nothing comes in time."""

    def sendto(self, data: bytes, address: tuple[str, int], /) -> int: ...

    def recvfrom(self, size: int, /) -> tuple[bytes, tuple[str, int]]: ...

    def settimeout(self, seconds: float, /) -> None: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Classic:
    """A second opinion. `said`: the type in RFC 3489's words, as much of it as could be known.

    `mapped`: the first outside address seen, of a throw-away socket, "" if none; `sent`: packets it took.
    """

    said: str
    mapped: str
    sent: int


async def classify(
    server: str, other: str = "", open_socket: Callable[[], Datagrams] | None = None
) -> Classic:
    """Have pystun3 classify what lies between here and a STUN server, both "host:port" over IPv4.

    `other`: a second server, whose address is used for the mapping when the first has no second address.
    Takes up to five seconds, in a thread. Raises Unavailable when pystun3 finds nothing at all.
    """
    return await trio.to_thread.run_sync(
        _classify, server, other, open_socket or _open_socket, abandon_on_cancel=True
    )


def _classify(server: str, other: str, open_socket: Callable[[], Datagrams]) -> Classic:
    host, port = _resolve(server)
    guard = _Guard(_resolve(other) if other else None, open_socket)
    try:
        said, _ = stun.get_nat_type(guard, _source_host(host), 0, stun_host=host, stun_port=port)
    except (KeyError, ValueError, TypeError, IndexError, OSError) as error:
        if not guard.mapped:
            raise Unavailable(f"pystun3 failed: {error!r}", RETRY_S) from None
        said = ""
    finally:
        guard.close()
    return Classic(_known(said, guard), guard.mapped, guard.sent)


class _Guard:
    """What pystun3 takes for a socket: tells its tests apart by where they go and what they want changed.

    The first test is asked of the server, and at once, from the same socket, the mapping test of the server's
    second address; its answer waits for pystun3 to ask. A filter test has a socket of its own.
    """

    def __init__(self, other: tuple[str, int] | None, open_socket: Callable[[], Datagrams]) -> None:
        self.mapped = ""  # the first outside address: pystun3 returns that of its last test, often none
        self.sent = 0
        self.unchanging = False  # the server does not answer from elsewhere
        self._other = show_address(other) if other else ""
        self._open = open_socket
        self._sockets: dict[tuple[str, int], Datagrams] = {}
        self._sends: dict[tuple[str, int], int] = {}
        self._answers: dict[tuple[str, int], bytes] = {}  # attributes for pystun3
        self._test = ("", CHANGE_NOTHING)
        self._transaction = b""  # of pystun3

    def sendto(self, data: bytes, address: tuple[str, int]) -> int:
        """Send what pystun3 wants, unless that was often enough. Raises TypeError for no address."""
        to = numeric_address(show_address((str(address[0]), int(address[1]))))
        self._transaction = data[4:HEADER_BYTES]
        self._test = (to, data[-1] if len(data) > HEADER_BYTES else CHANGE_NOTHING)
        if self._test not in self._answers and to:
            self._ask(self._test, data[HEADER_BYTES:])
        return len(data)

    def recvfrom(self, size: int) -> tuple[bytes, tuple[str, int]]:
        """The answer to what was sent last; TimeoutError when there is none."""
        attributes = self._answers.get(self._test)
        if attributes is None:
            raise TimeoutError
        head = b"\1\1" + len(attributes).to_bytes(2, "big") + self._transaction
        return (head + attributes)[:size], split_address(self._test[0])

    def close(self) -> None:
        """Close all sockets."""
        for sock in self._sockets.values():
            sock.close()

    def _ask(self, test: tuple[str, int], attributes: bytes) -> None:
        message = self._exchange(test, attributes)
        if message is None:
            return
        mapped, second = mapped_address(message), other_address(message) or self._other
        if mapped is None or mapped.startswith("["):
            return
        self._answers[test] = _old_attributes(mapped, second)
        if test[1] == CHANGE_NOTHING and not self.mapped:
            self.mapped = mapped
            self.unchanging = other_address(message) is None
            if second:
                self._ask((second, CHANGE_NOTHING), b"")

    def _exchange(self, test: tuple[str, int], attributes: bytes) -> StunMessage | None:
        """Send once, if that is still allowed, and wait for the answer that belongs to it."""
        if self.sent >= SENDS_MAX or self._sends.get(test, 0) >= SENDS_PER_TEST:
            return None
        self._sends[test] = self._sends.get(test, 0) + 1
        self.sent += 1
        transaction = secrets.token_bytes(TRANSACTION_BYTES)
        head = b"\0\1" + len(attributes).to_bytes(2, "big") + _COOKIE
        sock = self._socket_of(test)
        sock.sendto(head + transaction + attributes, split_address(test[0]))
        return self._answer(sock, test, transaction)

    def _socket_of(self, test: tuple[str, int]) -> Datagrams:
        """All mapping tests have one socket, each filter test has its own."""
        key = test if test[1] else ("", CHANGE_NOTHING)
        if key not in self._sockets:
            self._sockets[key] = self._open()
        return self._sockets[key]

    def _answer(self, sock: Datagrams, test: tuple[str, int], transaction: bytes) -> StunMessage | None:
        until = time.monotonic() + WAIT_S
        for _ in range(DATAGRAMS_MAX):
            left_s = until - time.monotonic()
            if left_s <= 0:
                return None
            sock.settimeout(left_s)
            try:
                data, source = sock.recvfrom(MESSAGE_BYTES_MAX + 1)
                message = parse_stun_untrusted(data)
            except WireError:
                continue
            except OSError:  # nothing came; or the server's host says that nobody listens there
                return None
            if message.transaction != transaction:
                continue
            if test[1] != CHANGE_NOTHING and show_address(source) == test[0]:
                self.unchanging = True  # the request to answer from elsewhere was ignored, or refused
                self._sends[test] = SENDS_PER_TEST
                return None
            if _is_from(test, show_address(source)) and message.kind is Kind.SUCCESS:
                return message
        return None


def _is_from(test: tuple[str, int], source: str) -> bool:
    """Whether an answer comes from where the test wants it to come from."""
    asked, change = test
    if change == CHANGE_NOTHING:
        return source == asked
    same_port = source.rpartition(":")[2] == asked.rpartition(":")[2]
    return not same_port and (host_of(source) == host_of(asked)) == (change == CHANGE_PORT)


def _old_attributes(mapped: str, second: str) -> bytes:
    """MAPPED-ADDRESS and CHANGED-ADDRESS of RFC 3489, all that pystun3 reads."""
    found = b""
    for type_, address in ((1, mapped), (5, second)):
        if address and not address.startswith("["):
            host, port = split_address(address)
            found += bytes((0, type_, 0, 8, 0, 1)) + port.to_bytes(2, "big") + socket.inet_aton(host)
    return found


def _known(said: str, guard: _Guard) -> str:
    """No more than can be known from a server that does not, or will not, answer from elsewhere."""
    if said in ("Symmetric NAT", "Blocked"):
        return _WORDS[said]
    if guard.unchanging and said == "Symmetric UDP Firewall":
        return "open internet or symmetric UDP firewall"
    if guard.unchanging and said in ("Restric NAT", "Restric Port NAT"):
        return "some kind of cone"
    return _WORDS.get(said, "some NAT")


def _resolve(server: str) -> tuple[str, int]:
    host, port = split_address(server)
    found = socket.getaddrinfo(host, port, socket.AF_INET, socket.SOCK_DGRAM)
    return str(found[0][4][0]), port


def _source_host(host: str) -> str:
    """This host's address towards another. Sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect((host, 9))
        return str(sock.getsockname()[0])


def _open_socket() -> Datagrams:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("0.0.0.0", 0))
    return sock

"""pystun3 behind its guard: what it says, what it never does."""

import time
from collections.abc import Callable

import pytest

from mesh.errors import Unavailable
from mesh.nat.classic import service
from mesh.nat.classic.service import DATAGRAMS_MAX, SENDS_MAX, Classic, classify
from mesh.nat.stun import encode_error, parse_stun_untrusted

SERVER, SECOND = ("203.0.113.1", 3478), ("203.0.113.2", 3479)
OWN = "192.168.1.2"
OUTSIDE = "198.51.100.9"

Address = tuple[str, int]
Answer = tuple[bytes, Address]
Answers = Callable[["FakeServer", bytes, Address], list[Answer]]


def address_attribute(type_: int, address: Address) -> bytes:
    packed = bytes(int(part) for part in address[0].split("."))
    return type_.to_bytes(2, "big") + b"\0\x08\0\x01" + address[1].to_bytes(2, "big") + packed


def success(request: bytes, mapped: Address, *, second: Address | None = SECOND, extra: bytes = b"") -> bytes:
    body = extra + address_attribute(1, mapped)
    body += address_attribute(0x802C, second) if second else b""
    return b"\1\1" + len(body).to_bytes(2, "big") + request[4:20] + body


class FakeServer:
    """A STUN server with two addresses, and the router before it, as one: `answers` decides."""

    def __init__(self, answers: Answers) -> None:
        self.answers = answers
        self.sent: list[tuple[int, Address, int]] = []  # socket, to, what to change
        self.sockets: list[FakeSocket] = []
        self.read = 0

    def open(self) -> "FakeSocket":
        self.sockets.append(FakeSocket(self, 50000 + len(self.sockets)))
        return self.sockets[-1]


class FakeSocket:
    def __init__(self, server: FakeServer, port: int) -> None:
        self.server, self.port = server, port
        self.queue: list[Answer] = []
        self.closed = False

    def sendto(self, data: bytes, address: Address, /) -> int:
        change = data[-1] if len(data) > 20 else 0
        self.server.sent.append((self.port, address, change))
        self.queue += self.server.answers(self.server, data, address)
        return len(data)

    def recvfrom(self, size: int, /) -> Answer:
        if not self.queue:
            raise TimeoutError
        self.server.read += 1
        return self.queue.pop(0)

    def settimeout(self, seconds: float, /) -> None:
        assert 0 < seconds <= 1

    def close(self) -> None:
        self.closed = True


def elsewhere(to: Address, change: int) -> Address:
    """Where a server with two addresses answers from."""
    host, port = to
    if change & 4:
        host = SECOND[0] if host == SERVER[0] else SERVER[0]
    if change & 2:
        port = SECOND[1] if port == SERVER[1] else SERVER[1]
    return host, port


def router(*, filtering: str, mapped: Callable[[Address], Address]) -> Answers:
    """A home router of one type before a server that does all of RFC 3489."""

    def answers(server: FakeServer, data: bytes, to: Address) -> list[Answer]:
        change = data[-1] if len(data) > 20 else 0
        source = elsewhere(to, change)
        here = server.sent[-1][0]
        sent_to = {to for port, to, _ in server.sent if port == here}
        passes = not filtering or source in sent_to
        if filtering == "address":
            passes = source[0] in {host for host, _ in sent_to}
        return [(success(data, mapped(to)), source)] if passes else []

    return answers


def one(to: Address) -> Address:
    return OUTSIDE, 40000


def each(to: Address) -> Address:
    return OUTSIDE, 40000 + to[1]


def own(to: Address) -> Address:
    return OWN, 50000


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "_source_host", lambda host: OWN)


async def opinion(answers: Answers, other: str = "") -> tuple[Classic, FakeServer]:
    server = FakeServer(answers)
    found = await classify("203.0.113.1:3478", other, server.open)
    assert all(sock.closed for sock in server.sockets)
    assert found.sent == len(server.sent) <= SENDS_MAX
    return found, server


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        (router(filtering="", mapped=own), "open internet"),
        (router(filtering="port", mapped=own), "symmetric UDP firewall"),
        (router(filtering="", mapped=one), "full cone"),
        (router(filtering="address", mapped=one), "restricted cone"),
        (router(filtering="port", mapped=one), "port restricted cone"),
        (router(filtering="port", mapped=each), "symmetric"),
        (lambda server, data, to: [], "UDP blocked"),
    ],
    ids=["open", "firewall", "full", "address", "port", "symmetric", "blocked"],
)
async def test_types(answers: Answers, said: str) -> None:
    found, _ = await opinion(answers)
    assert found.said == said
    assert bool(found.mapped) == (said != "UDP blocked")


async def test_the_mapping_is_tested_before_the_filter_and_the_filter_elsewhere() -> None:
    _, server = await opinion(router(filtering="port", mapped=one))
    assert server.sent[:2] == [(50000, SERVER, 0), (50000, SECOND, 0)]
    assert {change for port, _, change in server.sent if port == 50000} == {0}
    assert {change for port, _, change in server.sent if port == 50001} == {6}
    assert {change for port, _, change in server.sent if port == 50002} == {2}


async def test_the_first_mapped_address_is_kept() -> None:
    found, _ = await opinion(router(filtering="port", mapped=one))
    assert found.mapped == "198.51.100.9:40000"


async def test_a_flood_of_errors_is_not_answered() -> None:
    """Left to itself, pystun3 sent 107,748 packets in two seconds to a server that did this."""

    def flood(server: FakeServer, data: bytes, to: Address) -> list[Answer]:
        error = encode_error(parse_stun_untrusted(data), 400)
        return [(b"\1\x11" + error[2:], to)] * 100_000

    began = time.monotonic()
    found, server = await opinion(flood)
    assert found == Classic("UDP blocked", "", len(server.sent))
    assert server.read <= SENDS_MAX * DATAGRAMS_MAX
    assert time.monotonic() - began < 5


async def test_answers_from_elsewhere_are_not_taken() -> None:
    def spoofed(server: FakeServer, data: bytes, to: Address) -> list[Answer]:
        return [(success(data, (OUTSIDE, 1)), ("6.6.6.6", 3478)), (success(data, (OUTSIDE, 1)), (to[0], 1))]

    found, _ = await opinion(spoofed)
    assert (found.said, found.mapped) == ("UDP blocked", "")


async def test_answers_to_another_question_are_not_taken() -> None:
    def guessed(server: FakeServer, data: bytes, to: Address) -> list[Answer]:
        return [(success(data[:8] + bytes(12), (OUTSIDE, 1)), to)]

    found, _ = await opinion(guessed)
    assert found.said == "UDP blocked"


@pytest.mark.parametrize(
    ("mapped", "said"), [(one, "some kind of cone"), (own, "open internet or symmetric UDP firewall")]
)
async def test_a_server_that_ignores_change_request(mapped: Callable[[Address], Address], said: str) -> None:
    found, _ = await opinion(lambda server, data, to: [(success(data, mapped(to)), to)])
    assert found.said == said


async def test_a_server_that_refuses_change_request() -> None:
    def refusing(server: FakeServer, data: bytes, to: Address) -> list[Answer]:
        if len(data) > 20:
            return [(encode_error(parse_stun_untrusted(data), 420, "", [3]), to)]
        return [(success(data, one(to), second=None), to)]

    found, server = await opinion(refusing, other="203.0.113.2:3479")
    assert found.said == "some kind of cone"
    assert len(server.sent) == 4  # a refusal is not asked again
    found, _ = await opinion(refusing)
    assert found.said == "some NAT"  # with one address nothing can be told


async def test_a_second_server_shows_a_symmetric_router() -> None:
    def simple(server: FakeServer, data: bytes, to: Address) -> list[Answer]:
        return [] if len(data) > 20 else [(success(data, each(to), second=None), to)]

    found, _ = await opinion(simple, other="203.0.113.2:3479")
    assert found.said == "symmetric"


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"\xff" * 40,
        b"\1\1\0\1" + bytes(17),
        b"\x02\x02" + bytes(40),
    ],
)
async def test_garbage(garbage: bytes) -> None:
    found, _ = await opinion(lambda server, data, to: [(garbage, to)])
    assert found.said == "UDP blocked"


async def test_padded_and_foreign_attributes() -> None:
    extra = b"\x80\x22\0\x05hello\0\0\0" + b"\x7f\xff\0\1x\0\0\0" + b"\0\x20\0\3abc\0"

    def padded(server: FakeServer, data: bytes, to: Address) -> list[Answer]:
        return [(success(data, one(to), extra=extra[:-8]), elsewhere(to, data[-1] if len(data) > 20 else 0))]

    found, _ = await opinion(padded)
    assert found.said == "full cone"


async def test_no_way_to_the_server() -> None:
    def unreachable(server: FakeServer, data: bytes, to: Address) -> list[Answer]:
        raise OSError(101, "Network is unreachable")

    with pytest.raises(Unavailable):
        await opinion(unreachable)


@pytest.mark.parametrize("error", [KeyError, ValueError, TypeError])
async def test_pystun3_fails(error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    def get_nat_type(*args: object, **settings: object) -> None:
        raise error("whatever")

    monkeypatch.setattr("stun.get_nat_type", get_nat_type)
    with pytest.raises(Unavailable):
        await opinion(router(filtering="", mapped=one))

"""Who means harm to a running node's mesh: strangers at its port, and a member that does not keep the rules.

Strangers come from addresses of their own on loopback, so that their share of connections is theirs alone.
"""

import secrets
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest
import trio
from live_node import LiveNode, StartNode, until

from mesh.directory.facts import CarriedStream, CarriedStreams, Who, payload
from mesh.directory.record import Kind, Record, sign_record
from mesh.errors import MeshError
from mesh.identity.invite import Invite, enrol, parse_invite_untrusted
from mesh.identity.key import SEED_BYTES, SecretKey
from mesh.identity.membership import Membership
from mesh.link.client import dial
from mesh.link.connection.service import Credentials, LinkRefused, SecureConnection
from mesh.link.connector import CONTROL_FRAME
from mesh.link.control import Forward, Ping, RelayAsk
from mesh.link.control import encode as encode_control
from mesh.link.frame import FRAME_BYTES_MAX, encode_frame
from mesh.link.knock import make_knock
from mesh.link.limits import PENDING_PER_ADDRESS_MAX
from mesh.membership.message import Beat, Push
from mesh.membership.message import encode as encode_gossip
from mesh.node.core import GOSSIP_FRAME, SPREAD_FRAME

pytestmark = pytest.mark.interop

GROWTH_KIB_MAX = 20_000  # of all that is done here together; some 3,000 are usual
DESCRIPTORS_SPARE = 12  # mDNS's sockets, which may come after the first look; a leak is of hundreds
FLOOD = 400
FLOOD_ENDS_S = 20.0  # a flood is let go after five seconds of it; the machine may be busy
ANSWER_S = 5.0  # for the control API while the node is flooded; some milliseconds when it is not
GONE_S = 20.0  # for a handshake that is not finished: ten seconds are allowed
LINES_MAX = 200  # of the log, about some ten thousand frames
UNKNOWN_KIND = 99
GARBAGE = b"\xc1 is never used by MessagePack"


class Host:
    """The node under attack, and what its attackers need."""

    def __init__(self, node: LiveNode) -> None:
        self.node = node
        self.line = str(node.cli_json("invite", "--uses", "100")["invite"])
        self.invite: Invite = parse_invite_untrusted(self.line)
        until(lambda: self.network()["counters"], "it runs in its network")
        self.address = self.invite.seeds[0]
        host, _, port = self.address.rpartition(":")
        self.where = host, int(port)
        self.rss_kib = node.rss_kib()
        self.descriptors = node.descriptors()

    def get(self, path: str) -> Any:
        return msgspec.json.decode(self.node.fetch(f"/api/v1/{path}", listener="admin").body)

    def network(self) -> dict[str, Any]:
        found: dict[str, Any] = self.get("network")
        return found

    def peers(self) -> dict[str, dict[str, Any]]:
        return {peer["name"]: peer for peer in self.get("peers")["peers"]}

    def refusals(self, host: str) -> dict[str, int]:
        """Why somebody from there was refused, and how often."""
        return {row["reason"]: row["count"] for row in self.network()["refused"] if row["address"] == host}

    def await_refusal(self, host: str, reason: str) -> None:
        until(
            lambda: any(reason in text for text in self.refusals(host)),
            f"{host} refused: {reason}, not {self.refusals(host)}",
        )

    def stranger(self, host: str) -> socket.socket:
        """A connection from that address of loopback."""
        return socket.create_connection(self.where, timeout=GONE_S, source_address=(host, 0))

    def member(self, name: str, key: SecretKey | None = None) -> Credentials:
        """Somebody who used the invite."""
        key = key or SecretKey(secrets.token_bytes(SEED_BYTES))
        enrolled = enrol(self.invite, key.node_id, name, int(time.time()))
        return Credentials(key, Membership(enrolled.chain), "fwnode 0.1.0", time.time)

    def assert_well(self) -> None:
        """It answers `fwnode peers`, and holds nothing of those who went."""
        shown = self.node.cli_json("peers")
        assert shown["peers"][0]["state"] == "self"
        until(
            lambda: self.node.descriptors() <= self.descriptors + DESCRIPTORS_SPARE,
            f"descriptors: {self.node.descriptors()}, not {self.descriptors}",
        )
        growth = self.node.rss_kib() - self.rss_kib
        print(f"{growth} KiB more than at the start")
        assert growth < GROWTH_KIB_MAX


@pytest.fixture(scope="module")
def host(start_for_module: StartNode) -> Iterator[Host]:
    yield Host(start_for_module("--name", "host"))


@pytest.fixture(autouse=True)
def _well(host: Host) -> Iterator[None]:
    """After every test the node is as it was."""
    yield
    host.assert_well()


def ended(sock: socket.socket) -> bool:
    """Whether the node closed it, after whatever it said; waits for that."""
    with suppress(ConnectionError):
        while sock.recv(4096):
            pass
    return True


async def read_to_end(connection: SecureConnection) -> int:
    """How many bytes came until the node closed it."""
    count = 0
    with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        while data := await connection.receive_some():
            count += len(data)
    return count


async def send(connection: SecureConnection, *frames: bytes) -> None:
    with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        await connection.send_all(b"".join(frames))


def link_and(host: Host, name: str, *frames: bytes) -> None:
    """A member links, sends frames and stays until the node ends it."""

    async def run() -> None:
        connection = await dial(host.address, host.member(name))
        with trio.fail_after(FLOOD_ENDS_S):
            await send(connection, *frames)
            await read_to_end(connection)
        connection.close()

    trio.run(run)


def join(host: Host, name: str) -> float:
    """Seconds that an honest member takes to get a link while others make trouble."""

    async def run() -> float:
        began = time.monotonic()
        credentials = host.member(name)
        while True:
            try:
                connection = await dial(host.address, credentials)
            except MeshError:
                await trio.sleep(0.1)
                continue
            took_s = time.monotonic() - began
            await connection.aclose()
            return took_s

    return trio.run(run)


# --- strangers


def test_a_flood_of_connections_from_one_address(host: Host) -> None:
    """So many are held at a time, the others are refused at once, and a member comes in from elsewhere."""
    with ExitStack() as stack:
        for _ in range(FLOOD):
            with suppress(ConnectionError):
                stack.enter_context(host.stranger("127.0.1.1"))
        until(lambda: host.refusals("127.0.1.1"), "some were refused")
        held = host.node.descriptors() - host.descriptors
        print(host.refusals("127.0.1.1"), f"{held} connections held")
        assert all("from this address" in reason for reason in host.refusals("127.0.1.1"))
        assert held <= PENDING_PER_ADDRESS_MAX + DESCRIPTORS_SPARE
        took_s = join(host, "honest")
        print(f"a member was in after {took_s:.2f} s")
        assert took_s < ANSWER_S


def test_a_flood_of_connections_from_everywhere(host: Host) -> None:
    """Each address has one or two; members wait until the silent ones are sent away."""
    with ExitStack() as stack:
        for number in range(FLOOD):
            with suppress(ConnectionError):
                stack.enter_context(host.stranger(f"127.0.2.{number % 250 + 1}"))
        until(
            lambda: any("too many connections" in row["reason"] for row in host.network()["refused"]),
            "some were refused",
        )
        took_s = join(host, "patient")
        print(f"a member was in after {took_s:.2f} s")
        assert took_s < GONE_S


def test_those_who_do_not_speak_our_language(host: Host) -> None:
    random = Random(7)
    sayings = {
        "127.0.3.1": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        "127.0.3.2": b"\0",
        "127.0.3.3": b"FWR2" + bytes(16),
    }
    for source, data in sayings.items():
        with host.stranger(source) as sock:
            sock.sendall(data)
            assert ended(sock)
        host.await_refusal(source, "did not knock")
    with host.stranger("127.0.3.4") as sock:
        sock.sendall(b"FWR1" + secrets.token_bytes(16))  # a token that nobody was given
        assert ended(sock)
    for _ in range(30):
        with host.stranger("127.0.3.5") as sock, suppress(ConnectionError):
            sock.sendall(b"\x16\x03\x01" + random.randbytes(random.randrange(1, 600)))
            sock.shutdown(socket.SHUT_WR)
            assert ended(sock)


def test_tls_without_the_right_knock(host: Host) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    other = make_knock(secrets.token_bytes(32), secrets.token_bytes(16))
    newer = make_knock(host.invite.network, secrets.token_bytes(16)).replace("v1-", "v9-")
    for source, name, reason in (
        ("127.0.4.1", None, "did not knock"),
        ("127.0.4.2", "example.com", "did not knock"),
        ("127.0.4.3", other, "another network"),
        ("127.0.4.4", newer, "speaks version 9"),
    ):
        with host.stranger(source) as sock, pytest.raises(ssl.SSLError):
            context.wrap_socket(sock, server_hostname=name)
        host.await_refusal(source, reason)
    with host.stranger("127.0.4.5") as sock:
        knock = make_knock(host.invite.network, secrets.token_bytes(16))
        with context.wrap_socket(sock, server_hostname=knock) as tls, suppress(OSError):
            tls.sendall((1 << 20).to_bytes(4, "big") + bytes(4096))
            ended(tls)
    host.await_refusal("127.0.4.5", "a greeting of 1048576 bytes")


def test_half_open_and_ever_so_slow(host: Host) -> None:
    """Silent, half a token, a greeting byte by byte: all are sent away in bounded time."""
    hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500)
    with ExitStack() as stack:
        names = ("silent", "half a token", "half a TLS record", "drip")
        socks = [stack.enter_context(host.stranger(f"127.0.5.{n + 1}")) for n in range(len(names))]
        began = time.monotonic()
        socks[1].sendall(b"FWR1half")
        socks[2].sendall(hello[:40])
        for sock in socks:
            sock.setblocking(False)
        open_socks = dict(zip(names, socks, strict=True))
        at = 0
        while open_socks:
            assert time.monotonic() - began < GONE_S, open_socks
            for name, sock in list(open_socks.items()):
                try:
                    if name == "drip":
                        sock.send(hello[at : at + 1])
                        at += 1
                    gone = not sock.recv(4096)
                except BlockingIOError:
                    continue
                except ConnectionError:
                    gone = True
                if gone:
                    print(f"{name}: gone after {time.monotonic() - began:.1f} s")
                    del open_socks[name]
            time.sleep(0.2)


# --- members


def test_floods_of_frames_are_slowed_down_and_let_go(host: Host) -> None:
    """Five members at once, each with another kind of message, while the node answers others."""
    floods = {
        "pinger": encode_frame(CONTROL_FRAME, encode_control(Ping(1))),
        "asker": encode_frame(CONTROL_FRAME, encode_control(RelayAsk(bytes(32), bytes(16)))),
        "forwarder": encode_frame(CONTROL_FRAME, encode_control(Forward(bytes(32), bytes(1000)))),
        "beater": encode_frame(GOSSIP_FRAME, encode_gossip(Beat(True))),
    }
    slowest_s, before = 0.0, len(host.node.log())

    async def flood(name: str, frame: bytes) -> None:
        connection = await dial(host.address, host.member(name))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read_to_end, connection)
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                while True:
                    await connection.send_all(frame * 500)
            nursery.cancel_scope.cancel()
        connection.close()

    async def watch() -> None:
        nonlocal slowest_s
        while True:
            began = time.monotonic()
            await trio.to_thread.run_sync(host.peers)
            slowest_s = max(slowest_s, time.monotonic() - began)
            await trio.sleep(0.1)

    async def run() -> None:
        began = time.monotonic()
        with trio.fail_after(FLOOD_ENDS_S):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(watch)
                async with trio.open_nursery() as attackers:
                    for name, frame in floods.items():
                        attackers.start_soon(flood, name, frame)
                nursery.cancel_scope.cancel()
        print(f"all let go after {time.monotonic() - began:.1f} s; slowest answer {slowest_s:.2f} s")

    trio.run(run)
    assert slowest_s < ANSWER_S
    until(
        lambda: sum("flood" in line.get("reason", "") for line in host.node.log()) >= len(floods),
        "each was let go with the reason in the log",
    )
    until(lambda: not set(floods) & set(linked(host)), "none has a link")
    assert len(host.node.log()) - before < LINES_MAX, "nobody can fill the disk"


def linked(host: Host) -> list[str]:
    return [name for name, peer in host.peers().items() if peer["state"] == "connected"]


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (bytes([CONTROL_FRAME]) + b"\xff\xff\xff", f"at most {FRAME_BYTES_MAX} are allowed"),
        (encode_frame(UNKNOWN_KIND, b"x"), f"frames of kind {UNKNOWN_KIND}"),
        (encode_frame(CONTROL_FRAME, GARBAGE), "not a control message"),
        (encode_frame(CONTROL_FRAME, b""), "not a control message"),
        (encode_frame(CONTROL_FRAME, bytes(FRAME_BYTES_MAX)), "a control message of"),
        (encode_frame(SPREAD_FRAME, GARBAGE), "malformed"),
    ],
    ids=["too long", "unknown kind", "garbage", "empty", "long", "garbage about membership"],
)
def test_frames_that_are_none(host: Host, frame: bytes, reason: str) -> None:
    link_and(host, "mumbler", frame)
    host.node.await_log("peer unlinked", reason=reason)


@pytest.mark.parametrize("message", [GARBAGE, b"", bytes(FRAME_BYTES_MAX)], ids=["garbage", "empty", "long"])
def test_gossip_that_is_none(host: Host, message: bytes) -> None:
    link_and(host, "gossip", encode_frame(GOSSIP_FRAME, message))
    assert "gossip" not in linked(host)


def test_a_frame_that_never_ends(host: Host) -> None:
    """Half a frame costs at most its own length, and goes with its connection."""

    async def run() -> None:
        connection = await dial(host.address, host.member("breathless"))
        frame = encode_frame(GOSSIP_FRAME, bytes(60_000))
        await connection.send_all(frame[:30_000])
        until(lambda: "breathless" in linked(host), "it is linked meanwhile")
        connection.close()

    trio.run(run)
    until(lambda: "breathless" not in linked(host), "it is not, afterwards")


def test_a_member_with_another_ones_claim(host: Host) -> None:
    """It was overheard, and is worth nothing without the key."""
    good = host.member("good")
    thief = SecretKey(secrets.token_bytes(SEED_BYTES))
    stolen = Credentials(thief, good.membership, "fwnode 0.1.0", time.time)

    async def run() -> None:
        with pytest.raises(LinkRefused, match="does not have the key"):
            await dial(host.address, stolen)

    trio.run(run)
    host.await_refusal("127.0.0.1", "does not have the key")


class Owner:
    """A member in good order, whose records others get hold of."""

    def __init__(self, host: Host, name: str) -> None:
        self.key = SecretKey(secrets.token_bytes(SEED_BYTES))
        self.credentials = host.member(name, self.key)
        self.network = host.invite.network
        self.name = name
        self.generation = int(time.time() * 1000)

    def who(self) -> Record:
        who = Who(self.name, "fwnode 0.1.0", [], self.credentials.membership.own.data)
        return self.sign(Kind.WHO, 1, payload(who))

    def streams(self, version: int, *names: str) -> Record:
        carried = CarriedStreams([CarriedStream(name, 0, 0, []) for name in names])
        return self.sign(Kind.STREAMS, version, payload(carried))

    def sign(self, kind: Kind, version: int, data: bytes, generation: int | None = None) -> Record:
        generation = self.generation if generation is None else generation
        return sign_record(self.key, self.network, generation, kind, version, data)


def push(*records: Record) -> bytes:
    return encode_frame(GOSSIP_FRAME, encode_gossip(Push([record.blob for record in records])))


def shown_streams(host: Host, name: str) -> list[str] | None:
    peer = host.peers().get(name)
    return None if peer is None else list(peer["streams"])


def with_link(host: Host, credentials: Credentials, act: Callable[[Callable[..., None]], None]) -> None:
    """Run `act`, which may push records over a live link and look at what the node makes of them."""

    async def run() -> None:
        connection = await dial(host.address, credentials)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read_to_end, connection)

            def say(*records: Record) -> None:
                trio.from_thread.run(send, connection, push(*records))

            with trio.fail_after(FLOOD_ENDS_S):
                await trio.to_thread.run_sync(act, say)
            nursery.cancel_scope.cancel()
        connection.close()

    trio.run(run)


def test_records_that_are_said_again(host: Host) -> None:
    """An old version and a life that ended do not come back, whoever repeats them."""
    owner = Owner(host, "diarist")
    old, new = owner.streams(1, "old"), owner.streams(2, "new")
    goodbye = owner.sign(Kind.GOODBYE, 1, b"")

    def replay(say: Callable[..., None]) -> None:
        say(owner.who(), old)
        until(lambda: shown_streams(host, "diarist") == ["old"], "the first version is believed")
        say(new)
        until(lambda: shown_streams(host, "diarist") == ["new"], "the second is")
        for _ in range(20):
            say(old, new)
        marker = Owner(host, "marker 1")
        say(marker.who())
        until(lambda: "marker 1" in host.peers(), "the repetitions were read")
        assert shown_streams(host, "diarist") == ["new"]
        say(goodbye)
        until(lambda: "diarist" not in host.peers(), "it said goodbye")
        say(owner.who(), new)
        say(Owner(host, "marker 2").who())
        until(lambda: "marker 2" in host.peers(), "the repetitions were read")
        assert "diarist" not in host.peers()

    with_link(host, host.member("parrot"), replay)


def test_records_that_another_key_signed(host: Host) -> None:
    owner, forger = Owner(host, "victim"), Owner(host, "forger")
    true = owner.streams(2, "true")
    signature = forger.streams(2, "false").blob[:64]
    forged = msgspec.structs.replace(true, blob=signature + owner.streams(3, "false").blob[64:])

    def forge(say: Callable[..., None]) -> None:
        say(owner.who(), true)
        until(lambda: shown_streams(host, "victim") == ["true"], "the true one is believed")
        say(forged)
        until(lambda: "forger" not in linked(host), "who passes on forged records is let go")
        assert shown_streams(host, "victim") == ["true"]

    with_link(host, forger.credentials, forge)


def test_records_from_the_future(host: Host) -> None:
    """A generation far ahead harms its owner only: all that it says must be later still."""
    owner = Owner(host, "prophet")
    far = 2**63

    def foretell(say: Callable[..., None]) -> None:
        say(owner.who(), owner.streams(1, "today"))
        until(lambda: shown_streams(host, "prophet") == ["today"], "today is believed")
        carried = payload(CarriedStreams([CarriedStream("tomorrow", 0, 0, [])]))
        say(owner.sign(Kind.STREAMS, 2**62, carried, far))
        until(lambda: shown_streams(host, "prophet") == ["tomorrow"], "so is what it says of tomorrow")
        say(owner.streams(2, "today"))
        say(Owner(host, "marker 3").who())
        until(lambda: "marker 3" in host.peers(), "all was read")
        assert shown_streams(host, "prophet") == ["tomorrow"]

    with_link(host, owner.credentials, foretell)


def test_the_log_tells_no_secrets(host: Host) -> None:
    folder: Path = host.node.data_dir
    log = "\n".join(map(str, host.node.log())) + host.node.stdout
    for name in ("node.key", "network.key"):
        line = (folder / name).read_text().strip()
        assert line not in log and line[20:60] not in log, name
    assert host.line not in log and host.invite.key.seed.hex() not in log
    assert (folder / "node.key").stat().st_mode & 0o077 == 0

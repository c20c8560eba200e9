"""Two machines with a network between them that loses, repeats and reorders, on a clock of their own."""

import heapq
from collections.abc import Callable
from hashlib import sha256
from itertools import count
from math import inf
from random import Random

import pytest
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import StreamDataReceived

from mesh.errors import StateError
from mesh.identity.key import SecretKey
from mesh.link.quic import transport
from mesh.link.quic.inbox import Stream
from mesh.link.quic.machine import ACCESS_DENIED, IDLE_S, Configuration, Machine, Path
from mesh.link.quic.transport import Transport

CLIENT, SERVER = ("10.0.0.1:1", 0), ("10.0.0.2:2", 0)
BULK = b"".join(sha256(bytes([n])).digest() for n in range(256)) * 120  # 1 MB
CONFIGURATIONS = [Configuration(SecretKey(sha256(name).digest())) for name in (b"client", b"server")]


class World:
    """A client, a server, and what is on the way between them."""

    def __init__(self, seed: int = 0, *, loss: float = 0, repeat: float = 0, delay_s: float = 0.01) -> None:
        self.random = Random(seed)
        self.loss, self.repeat, self.delay_s, self.jitter_s = loss, repeat, delay_s, 0.0
        self.now = 1000.0
        self.flying: list[tuple[float, int, int, bytes, Path]] = []
        self.number = count()
        self.moved = 0  # how often the client's address changed
        self.filter: Callable[[int, bytes], bool] = lambda to, data: True
        self.client = Machine(Transport(CONFIGURATIONS[0].client("knock.fwnode")), dialled=True, now=self.now)
        self.client.connect(SERVER, self.now)
        ((first, _path),) = self.client.outputs(self.now)
        self.first = first
        self.server = Machine(
            Transport(CONFIGURATIONS[1].server(), first_destination=first[6:14]), dialled=False, now=self.now
        )
        self.ends = (self.client, self.server)
        self.sent = [0, 0]
        self.post(0, first)

    def post(self, sender: int, data: bytes) -> None:
        self.sent[sender] += 1
        source: Path = (f"10.0.0.1:{1 + self.moved}", 0) if sender == 0 else SERVER
        copies = 0 if self.random.random() < self.loss else 1 + (self.random.random() < self.repeat)
        for _ in range(copies if self.filter(1 - sender, data) else 0):
            at = self.now + self.delay_s + self.random.random() * self.jitter_s
            heapq.heappush(self.flying, (at, next(self.number), 1 - sender, data, source))

    def flush(self) -> None:
        for sender, end in enumerate(self.ends):
            for data, path in end.outputs(self.now):
                if sender == 0 or path[0] == f"10.0.0.1:{1 + self.moved}":
                    self.post(sender, data)

    def step(self) -> bool:
        at = self.next()
        if at == inf:
            return False
        self.now = max(self.now, at)
        while self.flying and self.flying[0][0] <= self.now:
            _at, _number, to, data, source = heapq.heappop(self.flying)
            self.ends[to].receive(data, source, self.now)
        for end in self.ends:
            due_at = end.deadline()
            if end.ended is None and due_at is not None and due_at <= self.now:
                end.on_deadline(self.now)
        return True

    def wait(self, seconds: float) -> None:
        """Let what happens in this time happen."""
        over = self.now + seconds
        while self.next() <= over:
            self.step()

    def next(self) -> float:
        self.flush()
        due = [end.deadline() or inf for end in self.ends if end.ended is None]
        return min([*due, *(flight[0] for flight in self.flying[:1])], default=inf)

    def until(self, done: Callable[[], bool], limit_s: float = 60.0) -> float:
        began = self.now
        while not done():
            assert self.step() or done(), f"nothing will happen any more: {[end.ended for end in self.ends]}"
            assert self.now - began < limit_s, "it takes too long"
        return self.now - began

    def opened(self, end: Machine) -> Stream:
        found: list[Stream] = []
        self.until(lambda: bool(found.extend(end.take_opened()) or found))
        return found[0]


def move(world: World, sender: Machine, receiver: Machine, data: bytes, read: int = 1 << 30) -> bytes:
    """Send all of `data` on a new stream; what arrived."""
    stream = sender.open()
    got = bytearray()
    taken: list[Stream] = []
    at = 0

    def advance() -> bool:
        nonlocal at
        while at < len(data) and (room := sender.room(stream)) > 0:
            sender.write(stream, data[at : at + room])
            at += min(room, len(data) - at)
        taken.extend(receiver.take_opened())
        while taken and taken[0].size:
            piece = taken[0].take(read)
            got.extend(piece)
            receiver.consumed(taken[0], len(piece))
        return len(got) >= len(data)

    world.until(advance)
    sender.finish(stream)
    world.until(lambda: taken[0].ended)
    receiver.finish(taken[0])
    world.until(lambda: sender.is_acknowledged() and receiver.is_acknowledged())
    return bytes(got)


def ready(**how: float) -> World:
    world = World(**how)  # type: ignore[arg-type]  # the seed is whole
    world.until(lambda: world.client.ready and world.server.ready)
    return world


def test_both_ways() -> None:
    world = ready()
    assert world.client.certificate is not None
    assert move(world, world.client, world.server, BULK) == BULK
    assert move(world, world.server, world.client, BULK) == BULK
    assert not world.client.streams and not world.server.streams
    assert world.client.round_trip_s == pytest.approx(0.02, rel=0.3)


@pytest.mark.parametrize("seed", range(12))
def test_nothing_is_lost_or_doubled_by_a_bad_network(seed: int) -> None:
    world = World(seed, loss=0.02 * (seed % 4), repeat=0.02 * (seed % 3))
    world.jitter_s = 0.004 * (seed % 5)
    world.until(lambda: world.client.ready and world.server.ready)
    size = len(BULK) // 4
    assert move(world, world.client, world.server, BULK[:size]) == BULK[:size]
    assert move(world, world.server, world.client, BULK[:size], read=10_000) == BULK[:size]


def test_many_streams_at_once() -> None:
    world = ready(loss=0.02)
    size = 40_000
    streams = [world.client.open() for _ in range(20)]
    for number, stream in enumerate(streams):
        world.client.write(stream, bytes([number]) * size)
        world.client.finish(stream)
    taken: list[Stream] = []
    world.until(
        lambda: (
            bool(taken.extend(world.server.take_opened()) or len(taken) == 20)
            and all(stream.ended for stream in taken)
        )
    )
    assert sorted(stream.take(1 << 30) for stream in taken) == [bytes([n]) * size for n in range(20)]


def test_a_window_is_full_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who reads nothing gets no more than the first window; all streams together stay in what is shared."""
    monkeypatch.setattr(transport, "SHARED_WINDOW_BYTES", 3 << 20)
    world = ready()
    streams = [world.client.open() for _ in range(8)]
    taken: list[Stream] = []

    def fill() -> None:
        for _ in range(6):
            for stream in streams:
                if (room := world.client.room(stream)) > 0:
                    world.client.write(stream, bytes(room))
            world.wait(0.5)
            taken.extend(world.server.take_opened())

    fill()
    assert len(taken) == 8
    assert all(stream.size == transport.FIRST_WINDOW_BYTES for stream in taken)
    for _ in range(8):  # all are read for a while: their windows grow as far as there is a share
        for stream in taken:
            world.server.consumed(stream, len(stream.take(1 << 30)))
        fill()
    held = [stream.size for stream in taken]
    assert sum(held) <= 8 * transport.FIRST_WINDOW_BYTES + (3 << 20)
    assert max(held) > 2 * transport.FIRST_WINDOW_BYTES
    for stream in taken:
        world.server.abandon(stream)
    assert world.server._transport._shared_bytes == 0


def test_a_stream_that_was_cut() -> None:
    world = ready()
    stream = world.client.open()
    world.client.write(stream, b"abc")
    far = world.opened(world.server)
    world.client.abandon(stream)
    world.until(lambda: bool(far.broken))
    assert far.take(10) == b"abc"
    world.server.abandon(far)
    for _ in range(20):
        world.step()
    assert not world.client._transport._streams and not world.server._transport._streams


def test_late_pieces_of_a_closed_stream_open_no_other() -> None:
    world = ready()
    stream = world.client.open()
    world.client.write(stream, bytes(200_000))
    far = world.opened(world.server)
    world.server.abandon(far)
    for _ in range(50):
        world.step()
    assert world.server.take_opened() == []
    assert stream.stopped


def test_too_many_streams_of_ours() -> None:
    world = ready()
    for _ in range(transport.STREAMS_MAX):
        world.client.open()
    with pytest.raises(StateError):
        world.client.open()


def test_close_is_told_at_once_with_the_reason() -> None:
    world = ready()
    stream = world.server.open()
    world.server.write(stream, b"x")
    world.opened(world.client)
    world.client.close("enough \u2028" + "x" * 400)
    assert world.client.ended is not None and not world.client.ended.by_peer
    took_s = world.until(lambda: world.server.ended is not None)
    assert took_s <= 0.011
    assert world.server.ended is not None and world.server.ended.by_peer
    assert world.server.ended.reason.startswith("enough ?xxx")
    assert stream.broken.startswith("enough")
    assert world.server.outputs(world.now) == []


def test_silence_ends_it() -> None:
    world = ready()
    world.filter = lambda to, data: False
    world.client.ping()
    world.until(lambda: world.client.ended is not None, limit_s=IDLE_S * 2)
    assert world.client.ended is not None and world.client.ended.silent


@pytest.mark.parametrize("busy", [False, True])
def test_a_client_that_moves(busy: bool) -> None:
    world = ready()
    stream = world.client.open()
    if busy:
        world.client.write(stream, bytes(60_000))
        world.step()
    world.moved += 1
    world.client.write(stream, b"x")
    world.until(lambda: world.server.path[0] == "10.0.0.1:2")
    world.opened(world.server)
    assert move(world, world.server, world.client, BULK) == BULK
    assert move(world, world.client, world.server, BULK) == BULK


def test_keys_are_changed_under_way() -> None:
    world = ready()
    assert move(world, world.client, world.server, BULK[:300_000]) == BULK[:300_000]
    for end in world.ends:
        end._transport.request_key_update()
        assert move(world, world.client, world.server, BULK[:300_000]) == BULK[:300_000]
        assert move(world, world.server, world.client, BULK[:300_000]) == BULK[:300_000]
    assert world.client._transport._cryptos[transport.Epoch.ONE_RTT].key_phase == 0


def test_nothing_that_a_peer_sends_raises() -> None:
    """Every byte of a plain packet changed, behind the encryption."""
    for seed in range(150):
        world = ready(seed=seed)
        random = Random(seed)
        stream = world.client.open()
        world.client.write(stream, bytes(3000))
        original = world.server._transport._take_frames

        def changed(plain: bytes, now: float, random: Random = random, original=original) -> bool | None:  # type: ignore[no-untyped-def]  # as the method
            at = random.randrange(min(len(plain), 24))
            return original(plain[:at] + bytes([random.randrange(256)]) + plain[at + 1 :], now)

        world.server._transport._take_frames = changed  # type: ignore[method-assign]  # it is what is tested
        for _ in range(10):
            world.step()
        assert world.server.ended is None or world.server.ended.code != ACCESS_DENIED


def test_chacha_where_aes_is_not_wanted() -> None:
    world = World()
    for configuration in CONFIGURATIONS:
        assert configuration.server().cipher_suites
    chosen = CONFIGURATIONS[0].client("knock.fwnode")
    chosen.cipher_suites = chosen.cipher_suites[1:] if chosen.cipher_suites else None
    world.client = Machine(Transport(chosen), dialled=True, now=world.now)
    world.client.connect(SERVER, world.now)
    ((first, _path),) = world.client.outputs(world.now)
    world.server = Machine(
        Transport(CONFIGURATIONS[1].server(), first_destination=first[6:14]), dialled=False, now=world.now
    )
    world.ends, world.flying = (world.client, world.server), []
    world.post(0, first)
    world.until(lambda: world.client.ready and world.server.ready)
    assert move(world, world.client, world.server, BULK) == BULK


@pytest.mark.parametrize(("carries", "size"), [(1500, 1452), (1400, 1372), (1300, 1200)])
def test_datagrams_become_as_large_as_the_path_carries(carries: int, size: int) -> None:
    world = ready()
    world.filter = lambda to, data: len(data) <= carries
    assert move(world, world.client, world.server, BULK) == BULK
    world.wait(3.0)
    assert move(world, world.client, world.server, BULK) == BULK
    assert world.client._transport._max_datagram_size == size
    assert world.client._transport._recovery.window.datagram_bytes == size


def test_a_path_that_carries_less_than_it_did() -> None:
    world = ready()
    assert move(world, world.client, world.server, BULK) == BULK
    assert world.client._transport._max_datagram_size == 1452
    world.filter = lambda to, data: len(data) <= 1300
    assert move(world, world.client, world.server, BULK[:200_000]) == BULK[:200_000]
    assert world.client._transport._max_datagram_size == 1200


def test_keys_are_changed_before_they_wear_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "KEY_PACKETS", 200)
    world = ready()
    phases = set()
    for _ in range(4):
        assert move(world, world.client, world.server, BULK[:400_000]) == BULK[:400_000]
        phases.add(world.client._transport._cryptos[transport.Epoch.ONE_RTT].key_phase)
    assert phases == {0, 1}


def test_acknowledgements_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    world = ready()
    before = world.sent[1]
    assert move(world, world.client, world.server, BULK) == BULK
    assert world.sent[1] - before < len(BULK) / 1200 / 4


@pytest.mark.parametrize("loss", [0.0, 0.03])
def test_aioquic_itself_understands(loss: float) -> None:
    """The short ways speak QUIC, not something of their own: the other end is aioquic as it comes."""
    world = World(7)
    world.post(0, world.first)
    plain = QuicConnection(
        configuration=CONFIGURATIONS[1].server(), original_destination_connection_id=world.first[6:14]
    )
    client, now, random = world.client, world.now, Random(1)
    inward, outward = [data for _at, _n, _to, data, _path in world.flying], list[bytes]()
    got, echoed = bytearray(), bytearray()
    stream: Stream | None = None
    for _ in range(20_000):
        now += 0.002
        for data in inward:
            if random.random() >= loss:
                plain.receive_datagram(data, ("10.0.0.1:1", 0), now)
        for data in outward:
            if random.random() >= loss:
                client.receive(data, SERVER, now)
        while (event := plain.next_event()) is not None:
            if isinstance(event, StreamDataReceived):
                got += event.data
                plain.send_stream_data(event.stream_id, event.data, event.end_stream)
        if client.ready and stream is None:
            stream = client.open()
            client.write(stream, BULK[:300_000])
        if stream is not None:
            piece = stream.take(1 << 20)
            echoed += piece
            client.consumed(stream, len(piece))
        if len(echoed) == 300_000:
            break
        for end in (client._transport, plain):
            due = end.get_timer()
            if due is not None and due <= now:
                end.handle_timer(now)
        outward = [data for data, _path in plain.datagrams_to_send(now)]
        inward = [data for data, _path in client.outputs(now)]
    assert got == echoed == BULK[:300_000]

"""Any messages, in any chunking and interleaving, in any pieces, come out as they went in."""

import dataclasses
import itertools
from random import Random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from media.errors import WireError
from media.ingest.rtmp.chunk import MAX_MESSAGE_BYTES, ChunkReader, to_chunks
from media.ingest.rtmp.handshake import ClientHandshake, ServerHandshake

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine is shared
Message = tuple[int, int, int, bytes]

messages = st.lists(
    st.tuples(
        st.sampled_from([8, 9, 18, 20]),
        st.integers(0, 5),
        st.one_of(st.integers(0, 0xFFFFFFFF), st.integers(0xFFFFF0, 0x100000F)),
        st.binary(max_size=700),
    ),
    max_size=12,
)
chunk_sizes = st.sampled_from([128, 129, 200, 4096, 65536])


def read(data: bytes, cuts: list[int]) -> list[Message]:
    """What a reader makes of `data` given in pieces that end at `cuts`."""
    found: list[Message] = []
    reader = ChunkReader(lambda *message: found.append(message))
    reader.message_limit = MAX_MESSAGE_BYTES
    edges = [0, *sorted({cut % (len(data) + 1) for cut in cuts}), len(data)]
    for start, stop in itertools.pairwise(edges):
        if start < stop:
            reader.receive(data[start:stop])
    return found


@unhurried
@given(messages, chunk_sizes, st.lists(st.integers(0, 1 << 20), max_size=30))
def test_any_pieces(given_messages: list[Message], chunk_bytes: int, cuts: list[int]) -> None:
    data = to_chunks(2, 1, 0, 0, 128, chunk_bytes.to_bytes(4))
    for kind, stream, time_ms, body in given_messages:
        data += to_chunks(2 + kind % 5, kind, stream, time_ms, chunk_bytes, body)
    assert read(data, cuts) == given_messages
    assert read(data, list(range(len(data)))) == given_messages


@dataclasses.dataclass
class Sender:
    """A chunk stream of a peer that uses every way there is to write a header."""

    number: int
    random: Random
    last: Message | None = None
    delta: int = 0

    def chunks(self, message: Message, size: int) -> list[bytes]:
        kind, stream, time_ms, body = message
        form, field = 0, time_ms
        if self.last is not None and self.last[1] == stream:
            step = (time_ms - self.last[2]) & 0xFFFFFFFF
            same = self.last[0] == kind and len(self.last[3]) == len(body)
            forms = [0, 1] + ([2] if same else []) + ([3] if same and step == self.delta else [])
            form = self.random.choice(forms)
            field = time_ms if form == 0 else step
        self.last, self.delta = message, field
        extended = field.to_bytes(4) if field >= 0xFFFFFF else b""
        head = self.basic(form)
        if form < 3:
            head += min(field, 0xFFFFFF).to_bytes(3)
        if form < 2:
            head += len(body).to_bytes(3) + bytes((kind,))
        if form == 0:
            head += stream.to_bytes(4, "little")
        pieces = [body[at : at + size] for at in range(0, len(body), size)] or [b""]
        repeated = extended if self.random.random() < 0.7 else b""
        return [head + extended + pieces[0]] + [self.basic(3) + repeated + piece for piece in pieces[1:]]

    def basic(self, form: int) -> bytes:
        if self.number < 64:
            return bytes((form << 6 | self.number,))
        if self.number < 320:
            return bytes((form << 6, self.number - 64))
        return bytes((form << 6 | 1,)) + (self.number - 64).to_bytes(2, "little")


@unhurried
@given(
    st.lists(
        st.tuples(
            st.sampled_from([4, 6, 70, 319, 4000]),
            st.tuples(
                st.sampled_from([8, 9]),
                st.sampled_from([1, 2]),
                # Values that keep the four bytes of a body from looking like an extended timestamp.
                st.one_of(st.integers(0, 200), st.integers(0xFFFFFA, 0x1000005), st.integers(0, 0xFFFFFFFF)),
                st.sampled_from([0, 1, 100, 128, 129, 300, 1000]),
            ),
        ),
        max_size=10,
    ),
    st.integers(0, 1 << 30),
    st.lists(st.integers(0, 1 << 20), max_size=20),
)
def test_any_headers_and_any_interleaving(
    plan: list[tuple[int, tuple[int, int, int, int]]], seed: int, cuts: list[int]
) -> None:
    random = Random(seed)
    senders: dict[int, Sender] = {}
    queues: dict[int, list[tuple[bytes, Message | None]]] = {}
    for number, (kind, stream, time_ms, size) in plan:
        message = (kind, stream, time_ms, bytes([0xA5]) * size)
        sender = senders.setdefault(number, Sender(number, random))
        chunks = sender.chunks(message, 128)
        queue = queues.setdefault(number, [])
        queue += [(chunk, None) for chunk in chunks[:-1]] + [(chunks[-1], message)]
    data, expected = b"", []
    while queues:
        number = random.choice(sorted(queues))
        chunk, done = queues[number].pop(0)
        data += chunk
        if done is not None:
            expected.append(done)
        if not queues[number]:
            del queues[number]
    # A type 3 chunk that leaves its timestamp out can only be told from what follows it.
    data += to_chunks(63, 8, 1, 0, 128, b"last")
    assert read(data, cuts) == [*expected, (8, 1, 0, b"last")]


@unhurried
@given(st.binary(max_size=3000), st.lists(st.integers(0, 1 << 20), max_size=10))
def test_garbage_raises_only_wire_errors(data: bytes, cuts: list[int]) -> None:
    try:
        read(data, cuts)
    except WireError:
        pass


@unhurried
@given(messages, st.data())
def test_damage_raises_only_wire_errors(given_messages: list[Message], data: st.DataObject) -> None:
    good = bytearray(
        b"".join(to_chunks(2 + kind % 5, kind, 1, time, 128, body) for kind, _, time, body in given_messages)
    )
    for _ in range(data.draw(st.integers(0, 5))):
        if good:
            good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    try:
        read(bytes(good), [])
    except WireError:
        pass


@unhurried
@given(st.binary(min_size=1, max_size=200), st.integers(0, 1 << 30))
def test_handshakes_survive_anything(data: bytes, seed: int) -> None:
    for handshake in (ServerHandshake(Random(seed)), ClientHandshake(Random(seed))):
        try:
            handshake.receive(data)
            handshake.receive(b"\x03" * 1536 + data)
        except WireError:
            pass

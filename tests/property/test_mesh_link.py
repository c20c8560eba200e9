"""Parsers of links: any chunking gives the same, what is packed comes back, garbage raises only WireError."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from mesh.errors import WireError
from mesh.link.certificate import node_of_untrusted
from mesh.link.frame import FRAME_BYTES_MAX, FrameReader, encode_frame
from mesh.link.hello import (
    HELLO_BYTES_MAX,
    ClientHello,
    ClientRefusal,
    HelloReader,
    ServerHello,
    Verdict,
    pack,
    parse_answer_untrusted,
    parse_server_hello_untrusted,
    parse_verdict_untrusted,
)
from mesh.link.knock import check_knock_untrusted, make_knock

TEXT = st.text(st.characters(exclude_categories=["C", "Z"]), max_size=64)
CHAIN = st.binary(max_size=2048)
FRAMES = st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=200)), max_size=20)
SERVER_HELLOS = st.builds(
    ServerHello, st.integers(0, 9999), TEXT, CHAIN, st.binary(min_size=32, max_size=32), TEXT
)
CLIENT_HELLOS = st.builds(
    ClientHello, TEXT, CHAIN, st.binary(min_size=64, max_size=64), TEXT, st.binary(max_size=1024), TEXT
)
REFUSALS = st.builds(ClientRefusal, TEXT)
VERDICTS = st.builds(Verdict, st.booleans(), TEXT)
GARBAGE = st.one_of(
    st.binary(max_size=200),
    st.one_of(SERVER_HELLOS, CLIENT_HELLOS, REFUSALS, VERDICTS).map(lambda message: pack(message)[4:]),
)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(ends)]


@given(FRAMES, st.lists(st.integers(0, 10_000), max_size=30))
def test_frames_in_any_pieces(frames: list[tuple[int, bytes]], places: list[int]) -> None:
    reader = FrameReader()
    data = b"".join(encode_frame(kind, content) for kind, content in frames)
    assert [frame for part in cut(data, places) for frame in reader.feed(part)] == frames


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_garbage_frames(parts: list[bytes]) -> None:
    reader = FrameReader()
    for part in parts:
        try:
            for _, data in reader.feed(part):
                assert len(data) <= FRAME_BYTES_MAX
        except WireError:
            pass


@given(st.one_of(SERVER_HELLOS, CLIENT_HELLOS, REFUSALS, VERDICTS), st.integers(1, 3000), st.binary())
def test_greetings_in_any_pieces(
    message: ServerHello | ClientHello | ClientRefusal | Verdict, piece: int, after: bytes
) -> None:
    """Never asks for a byte beyond the message."""
    reader, packed, at, found = HelloReader(), pack(message), 0, None
    stream = packed + after
    while found is None:
        size = min(reader.wanted, piece)
        found = reader.feed(stream[at : at + size])
        at += size
    assert at == len(packed)
    match message:
        case ServerHello():
            assert parse_server_hello_untrusted(found) == message
        case Verdict():
            assert parse_verdict_untrusted(found) == message
        case _:
            assert parse_answer_untrusted(found) == message


@given(GARBAGE, st.integers(0, 5000), st.integers(0, 255))
def test_garbage_greetings(data: bytes, place: int, value: int) -> None:
    changed = bytearray(data)
    if changed:
        changed[place % len(changed)] = value
    for parse in (parse_server_hello_untrusted, parse_answer_untrusted, parse_verdict_untrusted):
        try:
            parse(bytes(changed))
        except WireError:
            pass


@given(st.binary(min_size=4, max_size=4))
def test_any_length_of_a_greeting(length: bytes) -> None:
    reader = HelloReader()
    try:
        reader.feed(length)
    except WireError:
        return
    assert 0 < reader.wanted <= HELLO_BYTES_MAX


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=16, max_size=16))
def test_knocks_are_known(network: bytes, nonce: bytes) -> None:
    check_knock_untrusted(make_knock(network, nonce), network)


@given(st.one_of(st.none(), st.text(), st.from_regex(r"v\d+-[0-9a-f]{32}\.[0-9a-f]{32}\.fwnode")))
def test_other_names_are_no_knocks(name: str | None) -> None:
    try:
        check_knock_untrusted(name, b"n" * 32)
    except WireError:
        return
    raise AssertionError("a name that nobody made was taken")


@given(st.binary(max_size=5000))
def test_garbage_certificates(der: bytes) -> None:
    try:
        node_of_untrusted(der)
    except WireError:
        pass

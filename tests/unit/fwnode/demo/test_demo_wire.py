"""Messages between the demo's processes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fwnode.demo.wire import (
    MESSAGE_LIMIT,
    DemoSettings,
    Frames,
    Impossible,
    Message,
    MessageReader,
    Tracks,
    decode_untrusted,
    encode,
)
from media.errors import WireError
from media.track.model import Codec, Frame, Track

MESSAGES: list[Message] = [
    Tracks(
        [
            Track(1, Codec.H264, 90_000, b"\x01\x64", width=640, height=360),
            Track(2, Codec.AAC, 48_000, b"\x11"),
        ]
    ),
    Frames([Frame(1, 1_795_003_600_123_456, 0, True, b"picture" * 99), Frame(2, -21_333, 0, True, b"")]),
    Frames([]),
    Impossible("no encoder"),
]


@given(st.lists(st.integers(1, 400), max_size=30))
def test_any_chunking_gives_the_same_messages(sizes: list[int]) -> None:
    reader, wire, got = MessageReader(), b"".join(map(encode, MESSAGES)), []
    for size in sizes:
        got += reader.receive(wire[:size])
        wire = wire[size:]
    assert got + reader.receive(wire) == MESSAGES


@given(st.binary(max_size=200))
def test_garbage_raises_wire_errors_only(garbage: bytes) -> None:
    try:
        decode_untrusted(garbage)
    except WireError:
        pass


def test_a_message_beyond_the_limit_is_refused_by_its_length() -> None:
    with pytest.raises(WireError, match="limit"):
        MessageReader().receive((MESSAGE_LIMIT + 1).to_bytes(4, "big"))


@pytest.mark.parametrize(
    "wrong", [{"width": 1000}, {"height": 700}, {"fps": 0}, {"title": "x" * 99}, {"width": 64}]
)
def test_settings_say_what_is_wrong(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="demo"):
        DemoSettings(**wrong)  # type: ignore[arg-type]  # wrong on purpose

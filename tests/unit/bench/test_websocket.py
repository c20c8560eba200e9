import pytest
from fwbench.websocket import FrameReader, pong

FRAMES = b"".join(
    (
        b"\x82\x03abc",
        b"\x89\x02hi",
        b"\x82\x7e\x01\x00" + b"\x89" * 256,
        b"\x82\x7f" + (70_000).to_bytes(8, "big") + b"\x88" * 70_000,
        b"\x89\x00",
    )
)


@pytest.mark.parametrize("size", [1, 2, 3, 1000, len(FRAMES)])
def test_pings_are_found_and_payloads_skipped(size: int) -> None:
    reader, pings = FrameReader(), []
    for at in range(0, len(FRAMES), size):
        pings += reader.receive(memoryview(FRAMES[at : at + size]))
    assert pings == [b"hi", b""]


def test_close_is_an_error_that_says_why() -> None:
    with pytest.raises(ValueError, match="too slow"):
        FrameReader().receive(memoryview(b"\x88\x0a\x03\xf0too slow"))


def test_a_pong_is_masked() -> None:
    assert pong(b"hi") == b"\x8a\x82\0\0\0\0hi"

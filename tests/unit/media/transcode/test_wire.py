"""What agent and worker say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.errors import WireError
from media.track.model import Codec
from media.transcode.wire import (
    HEADER_BYTES,
    MESSAGE_MAX_BYTES,
    Begin,
    Coded,
    Damaged,
    Encoded,
    Flush,
    Flushed,
    FromWorkerReader,
    Impossible,
    Opened,
    OpenedRung,
    RungOrder,
    encode,
    parse_from_worker_untrusted,
    parse_to_worker_untrusted,
    size_untrusted,
)

FROM_WORKER = [
    Opened(3, [OpenedRung(b"\x01", 640, 360, 30.0)], "1280x720 yuv420p"),
    Encoded(0, 7, 90_000, True, b"picture"),
    Damaged(2, "no"),
    Flushed(),
    Impossible(3, "no decoder"),
]
TO_WORKER = [
    Begin(0, Codec.H264, b"avcC", 90_000, 30.0, [RungOrder(360, 700_000, 30)], 2, "veryfast", "low"),
    Coded(0, 0, 3000, True, b"data"),
    Flush(),
]


@given(st.lists(st.integers(1, 60)))
def test_any_chunks_give_the_same_messages(cuts: list[int]) -> None:
    data = b"".join(map(encode, FROM_WORKER))
    reader, found = FromWorkerReader(), []
    for cut in [*cuts, len(data)]:
        found += reader.receive(data[:cut])
        data = data[cut:]
    assert found == FROM_WORKER


@pytest.mark.parametrize("order", TO_WORKER)
def test_orders_come_back_as_they_were(order: Begin | Coded | Flush) -> None:
    data = encode(order)
    assert size_untrusted(data[:HEADER_BYTES]) == len(data) - HEADER_BYTES
    assert parse_to_worker_untrusted(data[HEADER_BYTES:]) == order


@given(st.binary(max_size=64))
def test_garbage_is_a_wire_error(data: bytes) -> None:
    for parse in (parse_from_worker_untrusted, parse_to_worker_untrusted, FromWorkerReader().receive):
        try:
            parse(data)
        except WireError:
            pass


def test_a_length_beyond_all_bounds_is_refused_before_anything_is_held() -> None:
    with pytest.raises(WireError):
        FromWorkerReader().receive((MESSAGE_MAX_BYTES + 1).to_bytes(HEADER_BYTES, "big"))

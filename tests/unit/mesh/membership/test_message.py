"""Bounds of messages."""

import pytest

from mesh.errors import WireError
from mesh.membership.message import (
    BATCH_MAX,
    BLOB_BYTES_MAX,
    MESSAGE_BYTES_MAX,
    Have,
    Push,
    encode,
    parse_message_untrusted,
    pushes,
)


def test_size_is_checked_before_parsing() -> None:
    with pytest.raises(WireError, match="at most"):
        parse_message_untrusted(b"\x92" * (MESSAGE_BYTES_MAX + 1))


def test_too_many_ids() -> None:
    assert parse_message_untrusted(encode(Have([1] * BATCH_MAX))) == Have([1] * BATCH_MAX)
    with pytest.raises(WireError):
        parse_message_untrusted(encode(Have([1] * (BATCH_MAX + 1))))


def test_pushes_fit_into_messages() -> None:
    batches = pushes([b"r" * BLOB_BYTES_MAX] * 20, [b"a" * 100] * 600, aside=False)
    parsed = [parse_message_untrusted(data) for data in batches]
    assert all(isinstance(push, Push) for push in parsed)
    assert sum(len(push.records) for push in parsed if isinstance(push, Push)) == 20
    assert sum(len(push.accusations) for push in parsed if isinstance(push, Push)) == 600


def test_small_push_is_one_message() -> None:
    (data,) = pushes([b"r"], [b"a"], aside=True)
    assert parse_message_untrusted(data) == Push([b"r"], [b"a"], True)

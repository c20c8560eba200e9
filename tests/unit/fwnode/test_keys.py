"""Stream keys: made, recognised, bound to streams."""

import pytest

from fwnode import keys
from fwnode.keys import Keyring, make_key

ENTROPY = bytes(range(20))


def test_a_key_is_long_readable_and_recognised() -> None:
    text, key = make_key(ENTROPY, "*", "OBS", 1_700_000_000)
    assert text.startswith("sk_") and len(text) == 3 + 32
    assert text == text.lower() and text.isascii()
    ring = Keyring([key])
    assert ring.match(text) == key
    assert ring.match(text[:-1]) is None
    assert ring.match(text.upper()) is None
    assert ring.match("") is None
    assert ring.match("x" * 100_000) is None
    assert ring.match("\udcff") is None


def test_what_is_kept_does_not_contain_the_key() -> None:
    text, key = make_key(ENTROPY, "*", "", 0)
    assert text not in repr(key) and ENTROPY not in key.digest
    assert key.id not in text


@pytest.mark.parametrize(
    ("pattern", "stream", "allowed"),
    [
        ("*", "anything", True),
        ("cam-*", "cam-1", True),
        ("cam-*", "cam", False),
        ("cam-*", "webcam-1", False),
        ("*-hd", "x-hd", True),
        ("stage", "stage", True),
        ("stage", "stage2", False),
    ],
)
def test_patterns(pattern: str, stream: str, *, allowed: bool) -> None:
    _, key = make_key(ENTROPY, pattern, "", 0)
    assert key.allows(stream) is allowed
    assert key.stream == ("" if "*" in pattern else pattern)


@pytest.mark.parametrize(
    "pattern", ["", "A", "a b", "[a]", "a?", "-a", "é", "x" * 64, "sk_abc", "a/b", "../a"]
)
def test_bad_patterns_are_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="stream pattern"):
        make_key(ENTROPY, pattern, "", 0)


@pytest.mark.parametrize("label", ["x" * 81, "a\nb", "\x1b[31m"])
def test_bad_labels_are_refused(label: str) -> None:
    with pytest.raises(ValueError, match="label"):
        make_key(ENTROPY, "*", label, 0)


def test_a_key_is_never_a_stream_name() -> None:
    text, _ = make_key(ENTROPY, "*", "", 0)
    assert keys.looks_like_key(text) and not keys.is_stream_name(text)
    assert keys.is_stream_name("sky") and keys.is_stream_name("a" * 63)
    for name in ("", "-a", "_a", "A", "a" * 64, "a.b", "a/b", "a\n"):
        assert not keys.is_stream_name(name)


def test_revoking_and_use() -> None:
    text, key = make_key(ENTROPY, "*", "", 5)
    ring = Keyring([key])
    ring.mark_used(key, 7)
    assert [kept.last_used_unix_s for kept in ring.all()] == [7]
    assert ring.take_used() == {key.id: 7} and ring.take_used() == {}
    ring.mark_used(key, 8)
    assert ring.revoke("nothing") is None
    assert ring.revoke(key.id) is not None
    assert ring.match(text) is None and len(ring) == 0
    ring.mark_used(key, 9)
    assert ring.take_used() == {} and len(ring) == 0

"""NAL units in start codes and in lengths."""

import pytest

from media.bitstream import annexb
from media.errors import WireError


def test_splits_start_codes_of_both_lengths() -> None:
    stream = b"\0\0\0\1\x67a\0\0\1\x68b\0\0\0\0\1\x65c"
    assert annexb.split_annexb_untrusted(stream) == [b"\x67a", b"\x68b", b"\x65c"]


def test_trailing_zeros_belong_to_no_unit() -> None:
    assert annexb.split_annexb_untrusted(b"\0\0\0\0\0\1\x65c\0\0\0") == [b"\x65c"]


@pytest.mark.parametrize("stream", [b"", b"\0\0\0"])
def test_nothing_is_no_units(stream: bytes) -> None:
    assert annexb.split_annexb_untrusted(stream) == []


def test_garbage_before_the_first_start_code_is_refused() -> None:
    with pytest.raises(WireError):
        annexb.split_annexb_untrusted(b"x\0\0\1\x65")


def test_number_of_units_is_bounded() -> None:
    units = [b"\x41"] * annexb.MAX_NALS
    assert annexb.split_annexb_untrusted(annexb.join_annexb(units)) == units
    assert annexb.split_sample_untrusted(annexb.join_sample(units)) == units
    for split, join in (
        (annexb.split_annexb_untrusted, annexb.join_annexb),
        (annexb.split_sample_untrusted, annexb.join_sample),
    ):
        with pytest.raises(WireError, match="more than"):
            split(join([*units, b"\x41"]))


def test_converts_both_ways() -> None:
    sample = b"\0\0\0\2\x67a\0\0\0\1\x65"
    stream = b"\0\0\0\1\x67a\0\0\0\1\x65"
    assert annexb.annexb_to_sample_untrusted(stream) == sample
    assert annexb.sample_to_annexb_untrusted(sample) == stream


@pytest.mark.parametrize("sample", [b"\0\0", b"\0\0\0\5abc", b"\0\0\0\1a\0\0\0\1", b"\xff\xff\xff\xffa"])
def test_lengths_that_do_not_add_up(sample: bytes) -> None:
    with pytest.raises(WireError):
        annexb.split_sample_untrusted(sample)


@pytest.mark.parametrize(("length_bytes", "sample"), [(1, b"\2ab\1c"), (2, b"\0\2ab\0\1c")])
def test_relength(length_bytes: int, sample: bytes) -> None:
    assert annexb.relength_untrusted(sample, length_bytes) == b"\0\0\0\2ab\0\0\0\1c"


@pytest.mark.parametrize(
    ("payload", "unit"),
    [
        (b"\0\0\0", b"\0\0\3\0"),
        (b"\0\0\1", b"\0\0\3\1"),
        (b"\0\0\3", b"\0\0\3\3"),
        (b"\0\0\4", b"\0\0\4"),
        (b"\0\0\0\0\0\0\1", b"\0\0\3\0\0\3\0\0\3\1"),
        (b"a\0\0", b"a\0\0\3"),
    ],
)
def test_emulation_prevention(payload: bytes, unit: bytes) -> None:
    assert annexb.escape(payload) == unit
    assert annexb.unescape(unit) == payload


def test_heads_are_cut_and_counted() -> None:
    sample = annexb.join_sample([b"abcdef", b"gh", b"ijk"])
    assert list(annexb.heads_untrusted(sample, 4, 2)) == [b"abcd", b"gh"]
    assert list(annexb.heads_untrusted(sample, 9, 9)) == [b"abcdef", b"gh", b"ijk"]
    with pytest.raises(WireError):
        list(annexb.heads_untrusted(sample[:-1], 4, 9))

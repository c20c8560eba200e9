import itertools

import pytest
from fwbench import flv


def tag(kind: int, time_ms: int, body: bytes) -> bytes:
    head = bytes([kind]) + len(body).to_bytes(3, "big") + (time_ms & 0xFFFFFF).to_bytes(3, "big")
    return head + bytes([time_ms >> 24, 0, 0, 0]) + body + (11 + len(body)).to_bytes(4, "big")


def video(time_ms: int) -> bytes:
    return tag(flv.VIDEO, time_ms, b"\x27\x01\0\0\0" + bytes([time_ms & 255]))


def audio(time_ms: int) -> bytes:
    return tag(flv.AUDIO, time_ms, b"\xaf\x01abcd")


FILE = b"".join(
    (
        b"FLV\x01\x05\0\0\0\x09\0\0\0\0",
        tag(flv.SCRIPT, 0, b"\x02\0\nonMetaData"),
        tag(flv.VIDEO, 0, b"\x17\0\0\0\0config"),
        tag(flv.AUDIO, 0, b"\xaf\0\x11\x90"),
        *(video(time_ms) for time_ms in (0, 40, 80, 120)),
        *(audio(time_ms) for time_ms in (30, 60, 90, 120)),
        tag(flv.VIDEO, 160, b"\x17\x02\0\0\0"),
    )
)


def test_tags_of_a_file() -> None:
    found = list(flv.tags(FILE))
    assert [tag.kind for tag in found[:4]] == [flv.SCRIPT, flv.VIDEO, flv.AUDIO, flv.VIDEO]
    assert [tag.is_config for tag in found[:4]] == [False, True, True, False]
    assert found[4].time_ms == 40


def test_long_times_keep_their_high_byte() -> None:
    assert next(flv.tags(FILE[:13] + tag(flv.AUDIO, 0x01020304, b"ab"))).time_ms == 0x01020304


@pytest.mark.parametrize("cut", [0, 5, 20, 30, len(FILE) - 12])
def test_broken_files_are_refused(cut: int) -> None:
    with pytest.raises(flv.FlvError):
        list(flv.tags(FILE[:cut]))


def test_a_clip_has_whole_tracks_bent_into_one_turn() -> None:
    clip = flv.clip(FILE, 120)
    assert len(clip.head) == 3
    assert [(tag.kind, tag.time_ms) for tag in clip.body] == [
        (flv.VIDEO, 0),
        (flv.AUDIO, 0),  # was at 120: the fourth of four frames of 30 ms that began at 30
        (flv.AUDIO, 30),
        (flv.VIDEO, 40),
        (flv.AUDIO, 60),
        (flv.VIDEO, 80),
        (flv.AUDIO, 90),
    ]


def test_the_schedule_goes_on_without_holes() -> None:
    schedule = list(itertools.islice(flv.clip(FILE, 120).schedule(), 21))
    assert [time for time, tag in schedule if tag.kind == flv.VIDEO] == list(range(0, 360, 40))
    assert [time for time, tag in schedule if tag.kind == flv.AUDIO] == list(range(0, 360, 30))
    assert [time for time, _ in schedule] == sorted(time for time, _ in schedule)


def test_a_clip_begins_with_a_picture() -> None:
    with pytest.raises(flv.FlvError, match="time 0"):
        flv.clip(FILE[:13] + video(40), 120)

"""Renditions of small segments."""

import pytest
from livepeer_gateway.profiles import Profile, checked
from livepeer_gateway.segments import Shape, media_of, segment, without_keyframes, without_pictures
from livepeer_gateway.transcoder import Settings, TranscodeError, inspect, remux, transcode

QUICK = Settings("ultrafast")
SMALL = checked(Profile("a", 146, 82, 100_000))


def one(data: bytes, profile: Profile = SMALL, settings: Settings = QUICK, extension: str = ".ts") -> bytes:
    (made,) = transcode(data, extension, (checked(profile),), settings)
    return made


@pytest.mark.livepeer("7.1", "7.2")
@pytest.mark.parametrize("profile", ["", "h264baseline", "h264main", "H264ConstrainedHigh"])
def test_timestamps_are_kept(profile: str) -> None:
    data = segment()
    source, made = media_of(data), media_of(one(data, Profile("a", 146, 82, 100_000, profile=profile)))
    assert made.video_pts == source.video_pts
    assert made.audio_pts == source.audio_pts
    assert made.first_is_key
    assert made.kinds == ("video", "audio")


@pytest.mark.livepeer("7.1", "5.3")
def test_frame_rate_and_container() -> None:
    data = segment()
    made = media_of(one(data, Profile("a", 146, 82, 100_000, fps=10), extension=".mp4"))
    assert len(made.video_pts) == 10
    assert media_of(one(segment(Shape(audio=False)))).kinds == ("video",)


@pytest.mark.livepeer("7.3")
def test_portrait_turns_the_request() -> None:
    made = media_of(one(segment(Shape(width=180, height=320, audio=False)), Profile("a", 256, 146, 90_000)))
    assert (made.width, made.height) == (144 + 2, 260)


@pytest.mark.livepeer("7.5", "7.6")
def test_what_cannot_be_transcoded() -> None:
    faults = {
        "TranscoderInvalidVideo": (segment(Shape(video=False)), b"garbage" * 100, b""),
        "Unsupported input codec": (segment(Shape(codec="mpeg2video")),),
        "No keyframes in input": (without_keyframes(segment()),),
    }
    for text, inputs in faults.items():
        for data in inputs:
            with pytest.raises(TranscodeError, match=text):
                one(data)
    with pytest.raises(TranscodeError, match="Too many outputs"):
        transcode(segment(), ".ts", (SMALL,) * 11, QUICK)


@pytest.mark.livepeer("7.4")
def test_what_a_segment_holds() -> None:
    seen = inspect(segment())
    assert (seen.codec, seen.audio, seen.width, seen.needs_bypass) == ("h264", "aac", 160, False)
    assert inspect(without_pictures(segment())).needs_bypass
    assert not inspect(segment(Shape(video=False))).needs_bypass
    assert inspect(b"garbage" * 100).codec == ""


@pytest.mark.livepeer("7.7")
def test_a_slice() -> None:
    data = segment()
    made = media_of(one(data, settings=Settings("ultrafast", clip_ms=(200, 600))))
    source = media_of(data)
    assert made.video_pts == source.video_pts[5:15]


def test_falsehoods() -> None:
    data = segment()
    moved = media_of(one(data, settings=Settings("ultrafast", shift_ticks=90_000)))
    assert moved.video_pts[0] == media_of(data).video_pts[0] + 90_000
    copied = remux(data, ".ts")
    assert copied != data
    assert media_of(copied).video_pts == media_of(data).video_pts
    with pytest.raises(TranscodeError):
        remux(b"garbage", ".ts")

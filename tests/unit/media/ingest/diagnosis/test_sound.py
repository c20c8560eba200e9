"""Findings on sound: gaps, a wrong sample rate, formats that browsers do not play."""

import pytest

from media.ingest.diagnosis.oddity import oddities
from media.track.model import Codec, Track
from media.track.stream import Severity

# From libx264 with -pix_fmt yuv444p and yuv420p10le, 64x64.
AVCC_444 = "01f4000affe1001767f4000a919b2884d808800000030080000019078912cb01000668ebe3c44844fff8f800"
AVCC_10_BIT = "016e000affe10018676e000aa6cd94426c0440000003004000000c83c489658001000668ebe3cb22c0fdfafa00"
AVCC_420 = "0164000affe100186764000aacd94426c044000003000400000300c83c48965801000668ebe3cb22c0fdf8f800"


def test_gaps(publisher, thinned):
    stream = publisher()
    stream.run(20)
    stream.mangle = thinned(every=47, kind="audio", run=5)
    stream.run(4)
    finding = stream.find("audio-gaps")
    assert finding.severity is Severity.WARNING and "gaps in the sound" in finding.message
    stream.mangle = None
    assert stream.codes(75) == []


def test_one_short_gap_is_fine(publisher, thinned):
    stream = publisher()
    stream.run(20)
    stream.mangle = thinned(every=1_000, kind="audio", run=5)
    assert [codes for codes in stream.watch(10) if codes] == []


def test_silence_that_opus_leaves_out_is_no_gap(publisher, audio, thinned):
    stream = publisher(audio=audio(codec=Codec.OPUS, config=b""), mangle=thinned(20, "audio", run=19))
    assert [codes for codes in stream.watch(30) if codes] == []


def test_a_sample_rate_that_the_timestamps_do_not_keep(publisher, retimed):
    """44.1 kHz declared as 48 kHz: each frame sounds shorter than its timestamps say."""
    stream = publisher(mangle=retimed("audio", stretch=48_000 / 44_100))
    stream.run(30)
    finding = stream.find("audio-rate")
    assert finding.severity is Severity.WARNING and " less sound" in finding.message
    stream.mangle = retimed("audio", shift_us=round(30e6 * (48 / 44.1 - 1)))
    stream.run(60)
    assert stream.find("audio-rate") is None


def audio_oddities(config: str, codec: Codec = Codec.AAC) -> dict[str, Severity]:
    track = Track(1, codec, 48_000, bytes.fromhex(config))
    return {code: verdict.severity for code, verdict in oddities(track).items()}


def test_usual_sound_is_fine():
    assert audio_oddities("1190") == {}  # AAC-LC 48 kHz stereo
    assert audio_oddities("1210") == {}  # 44.1 kHz
    assert audio_oddities("1188") == {}  # mono


def test_unusual_sound():
    assert audio_oddities("1310") == {"audio-sample-rate": Severity.INFO}  # 24 kHz
    assert audio_oddities("11b0") == {"audio-channels": Severity.INFO}  # 5.1
    assert audio_oddities("0990") == {"audio-codec": Severity.WARNING}  # AAC Main
    assert audio_oddities("ff", Codec.AC3) == {}  # does not parse: the ingest's business


def test_surround_codec():
    assert audio_oddities("10110a", Codec.AC3)["audio-codec"] is Severity.WARNING


@pytest.mark.parametrize(("config", "text"), [(AVCC_444, "High 4:4:4 Predictive"), (AVCC_10_BIT, "High 10")])
def test_pixels_that_browsers_do_not_decode(config, text):
    found = oddities(Track(1, Codec.H264, 90_000, bytes.fromhex(config)))
    assert found["pixel-format"].severity is Severity.ERROR
    assert text in found["pixel-format"].message and "yuv420p" in found["pixel-format"].fix


def test_pixels_that_they_do():
    assert oddities(Track(1, Codec.H264, 90_000, bytes.fromhex(AVCC_420))) == {}


def test_oddities_are_found_and_go_with_the_description(publisher, video):
    stream = publisher(video=video(config=bytes.fromhex(AVCC_444)))
    assert stream.codes(5) == ["pixel-format"]
    stream.video = video(config=bytes.fromhex(AVCC_420))
    stream.run(8)
    assert stream.find("pixel-format") is None

"""What commands print for people."""

import pytest

from fwnode.cli.output import bitrate, duration, print_table, size
from fwnode.cli.streams import describe_track


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (3599, "59 min"),
        (19_200, "5 h 20 min"),
        (273_600, "3 d 4 h"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_bitrates_and_sizes() -> None:
    assert [bitrate(128_000), bitrate(4_200_000)] == ["128 kb/s", "4.2 Mb/s"]
    assert [size(12_345), size(3_400_000), size(1_200_000_000)] == ["12 kB", "3.4 MB", "1.2 GB"]


def test_tracks() -> None:
    track = {
        "kind": "video",
        "name": "v1",
        "codec": "h264",
        "width": 1920,
        "height": 1080,
        "bitrate_bps": 6_000_000,
    }
    assert describe_track(track | {"frame_rate": 59.94}) == "v1 h264 1920x1080 59.9 fps 6.0 Mb/s"
    sound = {"kind": "audio", "name": "a2", "codec": "aac", "sample_rate": 44_100, "channels": 2}
    assert describe_track(sound | {"bitrate_bps": 128_000}) == "a2 aac 44.1 kHz 2 ch 128 kb/s"


def test_a_table_that_is_piped_has_one_line_per_row(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("NAME", "TRACKS"), [("x", "one\ntwo"), ("y\tz", "[red]")])
    assert capsys.readouterr().out == "NAME\tTRACKS\nx\tone two\ny z\t[red]\n"

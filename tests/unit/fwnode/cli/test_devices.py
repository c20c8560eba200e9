"""What `fwnode devices` and `fwnode bench devices` print."""

from typing import Any

import pytest

from devices.sample import Compared
from fwnode.cli import bench
from fwnode.cli.devices import Progress, notes, row

ENGINE: dict[str, Any] = {
    "name": "h264_nvenc",
    "kind": "encoder",
    "codec": "h264",
    "device": "GPU-11111111",
    "usable": True,
    "pixels_per_s": 1_234_567_890,
    "ladders_1080p30": 2.04,
    "sessions": 8,
    "psnr_db": 38.2,
    "reason": "",
}


def test_an_engine_that_works() -> None:
    assert row(ENGINE)[4:] == ("yes", "1235", "2.0", "38 dB", "the driver allows 8 at a time")


def test_an_engine_that_does_not() -> None:
    nothing = dict.fromkeys(("pixels_per_s", "ladders_1080p30", "sessions", "psnr_db"))
    shown = row(ENGINE | nothing | {"usable": False, "reason": "Cannot load\x1b[31m libcuda.so.1"})
    assert shown[4:8] == ("no", "-", "-", "-")
    assert "\x1b" not in shown[8]


def test_what_the_table_stands_on() -> None:
    found = {"cpu": "A", "cores": 3.5, "memory_bytes": 8_000_000_000, "ffmpeg": "8", "pyav": "18"}
    cards = [{"id": "cpu", "name": "A", "cores": 3.5}, {"id": "GPU-1", "name": "RTX", "cores": None}]
    first, second, _ = notes(found | {"devices": cards})
    assert first == "cpu: A, 3.5 cores' worth, 8 GB; FFmpeg 8 in PyAV 18"
    assert second == "GPU-1: RTX"


def test_comparison() -> None:
    one, other = Compared("a", 1.1, 1.0, 1.0, 1.0), Compared("b", 0.5, 1.0, 1.2, 1.0)
    assert bench.row(one) == ("a", "1.10", "1.00", "+10%", "1.00", "+0%")
    first, second = bench.notes([one, other])
    assert first == (
        "All together: 1.60 cores predicted, 2.00 measured: -20.0%; "
        "of one stream 30% in the mean, 50% at worst."
    )
    assert second.endswith("to +10.0% together, 20% at worst.")
    assert bench.as_json([one])["streams"][0]["name"] == "a"


def test_progress_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    Progress(lines=True).step(1, 2, "encoder libx264")
    Progress(lines=False).step(2, 2, "nobody looks")
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "1 of 2: encoder libx264\n")

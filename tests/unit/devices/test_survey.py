"""What was found out: told, kept, and not believed when it is damaged."""

from pathlib import Path

import msgspec
import pytest

from devices import store
from devices.cost import CodecCost, Rate
from devices.engines import targets
from devices.errors import WireError
from devices.gpu import Gpu
from devices.model import CPU, Choice, Kind
from devices.survey import Finding, Host, Survey, decode_survey_untrusted, encode_survey, refusal, view

CARD = Gpu("0000:01:00.0", "nvidia", "RTX 3060", "GPU-11111111", memory_bytes=12 << 30)
HOST = Host("processor", 8.0, 16 << 30, (CARD,), "18.1.0", "8.1.2")
SOFT = CodecCost(Rate(0.0, 5e-9, 3e-8), Rate(0.0, 5e-9, 3e-8))
HARD = CodecCost(Rate(0.0, 1e-9, 0.0), Rate(0.0, 1e-10, 0.0))
DECODER = Finding(
    "h264",
    Kind.DECODER,
    "h264",
    Choice("h264", CPU, "yuv420p"),
    True,
    "",
    40.0,
    CodecCost(Rate(0.0, 1e-9, 8e-9), Rate(0.0, 1e-9, 8e-9)),
)
X264 = Finding("libx264", Kind.ENCODER, "h264", Choice("libx264", CPU, "yuv420p"), True, "", 39.9, SOFT)
NVENC = Finding(
    "h264_nvenc", Kind.ENCODER, "h264", Choice("h264_nvenc", CARD.id, "nv12"), True, "", 38.0, HARD, 8
)
QSV = refusal(next(t for t in targets([]) if t.engine.name == "h264_qsv"), "no device")
SURVEY = Survey(HOST, (X264, NVENC, QSV, DECODER), Rate(0.0, 2e-10, 4e-10), 1.6)


def test_what_programs_are_told() -> None:
    told = {engine["name"]: engine for engine in view(SURVEY)["engines"]}
    assert told["libx264"]["kind"] == "encoder"
    assert told["libx264"]["usable"] is True
    seconds = 2_073_600 * 5e-9 + 5_000_000 / 30 * 3e-8
    assert told["libx264"]["pixels_per_s"] == pytest.approx(8 / 1.6 * 2_073_600 / seconds, rel=1e-6)
    assert told["h264_qsv"] == {
        "name": "h264_qsv",
        "kind": "encoder",
        "codec": "h264",
        "device": "intel",
        "usable": False,
        "pixels_per_s": None,
        "ladders_1080p30": None,
        "sessions": None,
        "psnr_db": None,
        "reason": "no device",
    }
    assert told["h264_nvenc"]["sessions"] == 8


def test_sessions_bound_ladders() -> None:
    assert SURVEY.ladders(NVENC) == pytest.approx(2.0)  # four renditions each, of eight
    free = msgspec.structs.replace(NVENC, sessions=None)
    found = msgspec.structs.replace(SURVEY, findings=(free, DECODER)).ladders(free)
    assert found is not None and found > 2.0


def test_ladders_need_a_decoder() -> None:
    assert msgspec.structs.replace(SURVEY, findings=(X264,)).ladders(X264) is None
    assert SURVEY.ladders(DECODER) == pytest.approx(0.75 * 5 / (30 * (2_073_600e-9 + 200_000 * 8e-9)))


def test_devices_are_those_that_something_works_on() -> None:
    cpu, card = SURVEY.devices()
    assert (cpu.id, cpu.cores) == (CPU, 5.0)
    assert (card.id, card.name, card.sessions, card.memory_bytes) == (CARD.id, "RTX 3060", 8, float(12 << 30))


def test_nothing_that_did_not_work_is_usable() -> None:
    assert [one.choice.engine for one in SURVEY.usable(Kind.ENCODER, "h264")] == ["libx264", "h264_nvenc"]


def test_the_cache_comes_back(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    store.save(folder, SURVEY)
    assert store.load(folder, HOST) == SURVEY
    assert [path.name for path in folder.iterdir()] == ["devices.json"]


@pytest.mark.parametrize(
    "changed",
    [
        {"ffmpeg": "9"},
        {"cores": 4.0},
        {"gpus": ()},
        {"gpus": (msgspec.structs.replace(CARD, driver_version="2"),)},
    ],
)
def test_another_host_is_measured_again(tmp_path: Path, changed: dict[str, object]) -> None:
    store.save(tmp_path, SURVEY)
    assert store.load(tmp_path, msgspec.structs.replace(HOST, **changed)) is None
    assert store.last(tmp_path) == SURVEY


@pytest.mark.parametrize("data", [b"", b"{}", b"\xff", b"[" * 10_000, encode_survey(SURVEY)[:-20]])
def test_a_bad_cache_is_no_cache(tmp_path: Path, data: bytes) -> None:
    (tmp_path / store.FILE).write_bytes(data)
    assert store.load(tmp_path, HOST) is None
    with pytest.raises(WireError):
        decode_survey_untrusted(data)


def test_numbers_that_cannot_be() -> None:
    for bad in (
        msgspec.structs.replace(SURVEY, contention=0.0),
        msgspec.structs.replace(SURVEY, scaling=Rate(-1.0, 0.0, 0.0)),
        msgspec.structs.replace(SURVEY, host=msgspec.structs.replace(HOST, cores=0.0)),
    ):
        with pytest.raises(WireError):
            decode_survey_untrusted(encode_survey(bad))
    with pytest.raises(WireError):
        decode_survey_untrusted(b" " * 2_000_000)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"File exists|Not a directory"):
        store.save(tmp_path / "file", SURVEY)
    assert store.last(tmp_path / "file") is None

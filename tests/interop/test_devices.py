"""Real engines of the FFmpeg that is installed, in real child processes, and the commands that show them."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from devices import store
from devices.engines import ENGINES, Target, targets
from devices.model import CPU, Choice, Kind
from devices.sample import SAMPLES, plan_of
from devices.survey import Finding, Survey
from devices.trial.service import converse, look_around, survey, try_target
from devices.trial.wire import Counted, CountSessions, Library, Took, Transcode, Try, Works

DEADLINE_S = 60.0  # a second or two when the machine is idle
SOFTWARE = ("libx264", "h264")
ABSENT = ("h264_nvenc", "h264_vaapi", "h264_v4l2m2m")

Run = Callable[..., "subprocess.CompletedProcess[str]"]


class Silent:
    """Is told of progress, and says nothing."""

    def step(self, number: int, count: int, what: str) -> None:
        pass

    def found(self, finding: Finding) -> None:
        pass


def target(name: str, kind: Kind = Kind.ENCODER) -> Target:
    return next(one for one in targets([]) if one.engine.name == name and one.engine.kind is kind)


def has_hardware() -> bool:
    return any(any(Path("/dev").glob(pattern)) for pattern in ("nvidia*", "dri", "video*"))


@pytest.fixture(scope="module")
def library() -> Library:
    return trio.run(look_around)[0]


@pytest.fixture(scope="module")
def measured() -> Survey:
    chosen = [engine for engine in ENGINES if engine.name in SOFTWARE + ABSENT]

    async def run() -> Survey:
        return await survey(Silent(), engines=chosen)

    return trio.run(run)


@pytest.fixture
def cli(tmp_path: Path) -> Run:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FWNODE_")}

    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "fwnode", *arguments],
            env=kept | {"FWNODE_DATA_DIR": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )

    return run


@pytest.mark.parametrize("name", ["libx264", "libx265", "libsvtav1", "libvpx-vp9"])
async def test_software_encoders_work(name: str, library: Library) -> None:
    if name not in library.encoders:
        pytest.skip(f"this FFmpeg has no {name}")
    engine = target(name).engine
    said, trouble = await converse(
        Try(engine.kind, engine.codec, target(name).choice, measure=False), (DEADLINE_S,)
    )
    assert trouble == ""
    assert isinstance(said[0], Works), said
    assert said[0].psnr_db > 30


@pytest.mark.parametrize(("name", "codec"), [("hevc", "hevc"), ("libdav1d", "av1"), ("vp9", "vp9")])
async def test_software_decoders_work(name: str, codec: str) -> None:
    choice = target(name, Kind.DECODER).choice
    said, trouble = await converse(Try(Kind.DECODER, codec, choice, measure=False), (DEADLINE_S,))
    assert trouble == ""
    assert isinstance(said[0], Works), said


@pytest.mark.parametrize("name", ["h264_nvenc", "hevc_qsv", "av1_amf", "h264_v4l2m2m"])
async def test_hardware_that_is_not_there_is_refused_in_words(name: str, library: Library) -> None:
    if has_hardware():
        pytest.skip("this machine has hardware of some kind")
    if name not in library.encoders:
        pytest.skip(f"this FFmpeg has no {name}")
    finding = await try_target(target(name), library)
    assert not finding.usable
    assert len(finding.reason) > 15, finding.reason
    assert "not in this FFmpeg" not in finding.reason  # it was opened, and said no itself


async def test_a_wrong_option_is_a_reason_and_no_crash() -> None:
    choice = Choice("libx264", CPU, "yuv420p", {"preset": "hurry"})
    said, trouble = await converse(Try(Kind.ENCODER, "h264", choice), (DEADLINE_S,))
    assert trouble == ""
    assert "hurry" in str(said[0])


async def test_a_decoder_that_gives_the_wrong_codec_is_no_decoder() -> None:
    said, _ = await converse(Try(Kind.DECODER, "h264", Choice("hevc", CPU, "yuv420p")), (DEADLINE_S,))
    assert not isinstance(said[0], Works)


async def test_sessions_are_counted_up_to_the_limit() -> None:
    choice = Choice("libx264", CPU, "yuv420p", {"preset": "ultrafast"})
    said, _ = await converse(CountSessions(choice, limit=5), (DEADLINE_S,))
    assert said == [Counted(5, "")]


def test_a_survey_of_this_machine(measured: Survey) -> None:
    found = {finding.name: finding for finding in measured.findings}
    assert all(found[name].usable for name in SOFTWARE)
    assert all(finding.usable or finding.reason for finding in measured.findings)
    encoder, decoder = found["libx264"], found["h264"]
    assert encoder.cost is not None and decoder.cost is not None
    pixels = 1920 * 1080
    assert 0 < decoder.cost.device.seconds(pixels, 1e5) < encoder.cost.device.seconds(pixels, 1e5) < 1
    assert (measured.ladders(encoder) or 0) > 0


async def test_real_work_costs_about_what_was_predicted(measured: Survey) -> None:
    small = next(sample for sample in SAMPLES if sample.name == "small test card")
    plan = plan_of(small.work, measured)
    said, trouble = await converse(Transcode(small.work, plan, small.picture, 2.0), (DEADLINE_S,))
    assert trouble == ""
    assert isinstance(said[0], Took)
    took = (said[0].decode_s + said[0].scale_s + said[0].encode_s) / said[0].media_s
    assert 1 / 3 < plan.demand[CPU].busy / took < 3  # `fwnode bench devices --check` tells it finely


def test_the_command_shows_what_is_kept(measured: Survey, tmp_path: Path, cli: Run) -> None:
    store.save(tmp_path, measured)
    shown = cli("devices", "--json")
    assert shown.returncode == 0, shown.stderr
    engines = {engine["name"]: engine for engine in json.loads(shown.stdout)["engines"]}
    assert engines["libx264"]["kind"] == "encoder"
    assert engines["libx264"]["usable"] is True
    assert engines["libx264"]["pixels_per_s"] > 0
    assert engines["h264_nvenc"]["usable"] is False or engines["h264_nvenc"]["pixels_per_s"]
    table = cli("devices").stdout
    assert table.startswith("ENGINE\tKIND\tCODEC")
    assert "h264_nvenc\tencoder\th264" in table


def test_the_command_line_does_not_load_codecs() -> None:
    code = "import sys, fwnode.cli.app; print([m for m in ('av', 'trio', 'devices') if m in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_an_interrupted_bench_says_nothing_and_keeps_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "fwnode", "bench", "devices", "--data-dir", str(tmp_path / "data")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        assert running.stderr.readline().startswith("1 of ")
        running.send_signal(signal.SIGINT)
        assert "Traceback" not in running.stderr.read()
        assert running.wait(DEADLINE_S) == 130
    assert not (tmp_path / "data").exists()

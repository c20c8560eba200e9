"""Children that crash, hang, babble and eat: each costs one engine and a reason in words."""

import sys
import time
from collections.abc import Sequence

import pytest

from devices.engines import ENGINES, targets
from devices.errors import DevicesError
from devices.model import Choice, Kind
from devices.survey import Finding
from devices.trial import service
from devices.trial.service import converse, exit_words, survey, try_target
from devices.trial.wire import Host, Library, Measured, Point, Refused, ScalePoint, Try, Works, encode

LIBRARY = Library("18", "8", ["libx264", "h264_nvenc"], ["h264"], [])
JOB = Try(Kind.ENCODER, "h264", Choice("libx264", "cpu", "yuv420p"))
POINTS = tuple(Point(w, h, 1e5, 1e-2, 1e-2) for w, h in ((1920, 1080), (1280, 720), (640, 360)))
LONG = 60.0  # of a limit that must not be reached
TARGET = next(target for target in targets([]) if target.engine.name == "libx264")


def child(body: str) -> Sequence[str]:
    """A worker of one's own: `say(data)` writes to its standard output."""
    head = "import sys, os, time, signal\ndef say(d): sys.stdout.buffer.write(d); sys.stdout.flush()\n"
    return (sys.executable, "-c", head + body)


def saying(*answers: Works | Refused | Measured | Library | Host) -> str:
    return f"say({b''.join(encode(answer) for answer in answers)!r})\n"


async def test_answers_come_in_order() -> None:
    said, trouble = await converse(JOB, (LONG, LONG), child(saying(Works(40.0), Measured(POINTS))))
    assert said == [Works(40.0), Measured(POINTS)]
    assert trouble == ""


async def test_a_refusal_is_the_last_word() -> None:
    said, trouble = await converse(JOB, (LONG, LONG), child(saying(Refused("no")) + "time.sleep(60)"))
    assert said == [Refused("no")]
    assert trouble == ""


@pytest.mark.parametrize(
    ("body", "trouble"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "it crashed (SIGSEGV)"),
        ("os.abort()", "it crashed (SIGABRT)"),
        ("sys.exit(7)", "it ended with code 7"),
        ("say(b'\\xff' * 100)", "it said nonsense: a message of 4294967295 bytes behind 4 bytes of length"),
        ("say(b'\\0\\0\\0\\4abcd')", "it said nonsense: not an answer"),
        ("say(b'\\0\\0\\1\\0cut')", "it ended with code 0"),
    ],
)
async def test_children_that_fail(body: str, trouble: str) -> None:
    said, found = await converse(JOB, (LONG,), child(body))
    assert said == []
    assert found.startswith(trouble)


async def test_a_child_that_hangs_is_ended() -> None:
    start = time.monotonic()
    said, trouble = await converse(
        JOB, (0.5, LONG), child("signal.signal(15, signal.SIG_IGN)\ntime.sleep(60)")
    )
    assert (said, trouble) == ([], "it hung: nothing came within 0.5 s")
    assert time.monotonic() - start < 20


async def test_a_child_that_hangs_after_its_first_answer() -> None:
    body = saying(Works(40.0)) + "time.sleep(60)"
    said, trouble = await converse(JOB, (LONG, 0.3), child(body))
    assert (said, trouble) == ([Works(40.0)], "it hung: nothing came within 0.3 s")


async def test_a_child_that_eats_memory_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "MEMORY_MAX_BYTES", 1 << 26)
    said, trouble = await converse(JOB, (LONG,), child("x = b'x' * (1 << 28)\ntime.sleep(60)"))
    assert said == []
    assert trouble.startswith("it took more than")


async def test_a_program_that_is_not_there() -> None:
    said, trouble = await converse(JOB, (LONG,), ("/nowhere/at/all",))
    assert (said, trouble) == ([], "the trial could not be started: No such file or directory")


async def test_words_and_environment_reach_the_child() -> None:
    body = saying(Works(40.0)).replace("say(", "os.environ['CUDA_VISIBLE_DEVICES'] == 'GPU-1' and say(")
    said, _ = await converse(JOB, (LONG,), child(body), {"CUDA_VISIBLE_DEVICES": "GPU-1"})
    assert said == [Works(40.0)]


async def test_findings() -> None:
    usable = await try_target(TARGET, LIBRARY, child(saying(Works(40.0), Measured(POINTS))))
    assert usable.usable and usable.cost is not None
    refused = await try_target(TARGET, LIBRARY, child(saying(Refused("Cannot load libcuda.so.1"))))
    assert (refused.usable, refused.reason) == (False, "Cannot load libcuda.so.1")
    crashed = await try_target(TARGET, LIBRARY, child(saying(Works(40.0)) + "os.abort()"))
    assert (crashed.usable, crashed.reason) == (
        False,
        "it works, and failed while it was measured: it crashed (SIGABRT)",
    )
    odd = await try_target(TARGET, LIBRARY, child(saying(LIBRARY, LIBRARY)))
    assert (odd.usable, odd.reason) == (False, "it answered something else than was asked")


async def test_what_ffmpeg_does_not_have_is_not_tried() -> None:
    absent = await try_target(TARGET, Library("18", "8", [], [], []), ("/nowhere",))
    assert absent.reason == "not in this FFmpeg (8, of PyAV 18)"


class Steps:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.findings: list[Finding] = []

    def step(self, number: int, count: int, what: str) -> None:
        self.steps.append(f"{number}/{count} {what}")

    def found(self, finding: Finding) -> None:
        self.findings.append(finding)


async def test_one_bad_engine_does_not_hurt_the_rest() -> None:
    host = Host((ScalePoint(1920, 1080, 1280, 720, 1e-3),), 1.5)
    body = f"""
length = int.from_bytes(sys.stdin.buffer.read(4), 'big')
job = sys.stdin.buffer.read(length)
if b'look' in job: {saying(LIBRARY)}
elif b'h264_nvenc' in job: os.abort()
elif b'host' in job: {saying(host)}
else: {saying(Works(40.0), Measured(POINTS))}
"""
    engines = [one for one in ENGINES if one.name in ("libx264", "h264_nvenc", "h264")]
    steps = Steps()
    found = await survey(steps, engines=engines, command=child(body))
    assert [(one.name, one.usable, one.reason) for one in found.findings] == [
        ("libx264", True, ""),
        ("h264_nvenc", False, "it crashed (SIGABRT)"),
        ("h264", True, ""),
    ]
    assert found.contention == 1.5
    assert steps.findings == list(found.findings)
    assert steps.steps[-1] == "4/4 scaling, and all cores at once"


async def test_without_a_worker_nothing_can_be_said() -> None:
    with pytest.raises(DevicesError, match="cannot be listed: it ended with code 3"):
        await survey(Steps(), command=child("sys.exit(3)"))


def test_ends_in_words() -> None:
    assert exit_words(3) == "it ended with code 3"
    assert exit_words(-11) == "it crashed (SIGSEGV)"
    assert exit_words(-63) == "it crashed (signal 63)"

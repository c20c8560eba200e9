"""The host is known from the last time, or measured once somebody wants renditions."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from devices import store
from devices.cost import Rate
from devices.errors import DevicesError
from devices.survey import Host, Survey
from fwnode.transcoding.broker import Broker
from fwnode.transcoding.measuring import service
from fwnode.transcoding.measuring.service import MEASURE_AFTER_S, MEASURE_AGAIN_S, know_the_host

HERE = Host("cpu", 2.0, 0, (), "", "")
SURVEY = Survey(HERE, (), Rate(1.0))
WAIT_S = 10.0


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each run of trials works; taken from the front."""
    planned: list[bool] = []

    async def survey(report: Any) -> Survey:
        report.step(1, 1, "encoder")
        if not planned.pop(0):
            raise DevicesError("no worker can be started")
        return SURVEY

    async def look_around() -> tuple[None, Host]:
        return None, HERE

    async def run_sync(function: Callable[..., Any], *arguments: Any) -> Any:
        """In this thread: time must not jump while another one works."""
        await trio.lowlevel.checkpoint()
        return function(*arguments)

    monkeypatch.setattr(trio.to_thread, "run_sync", run_sync)
    monkeypatch.setattr(service, "survey", survey)
    monkeypatch.setattr(service, "look_around", look_around)
    return planned


def known(broker: Broker, folder: Path, seconds: float, *, wanted: bool) -> bool:
    async def run() -> None:
        with trio.move_on_after(seconds):
            if wanted:
                broker.wanted = True
            await know_the_host(broker, folder)

    trio.run(run, clock=trio.testing.MockClock(autojump_threshold=0))
    return broker.survey is not None


def test_what_was_measured_before_is_used_at_once(runs: list[bool], tmp_path: Path) -> None:
    store.save(tmp_path, SURVEY)
    assert known(Broker(1, lambda: 0.0), tmp_path, 1.0, wanted=False)


def test_nothing_is_measured_before_it_is_wanted(runs: list[bool], tmp_path: Path) -> None:
    assert not known(Broker(1, lambda: 0.0), tmp_path, 2 * MEASURE_AFTER_S, wanted=False)


def test_it_is_measured_in_the_background_and_kept(runs: list[bool], tmp_path: Path) -> None:
    runs.append(True)
    assert known(Broker(1, lambda: 0.0), tmp_path, MEASURE_AFTER_S + WAIT_S, wanted=True)
    assert store.load(tmp_path, HERE) == SURVEY


def test_another_host_s_measurements_and_failures_mean_again(runs: list[bool], tmp_path: Path) -> None:
    store.save(tmp_path, Survey(Host("another", 2.0, 0, (), "", ""), (), Rate()))
    runs.extend([False, True])
    broker = Broker(1, lambda: 0.0)
    assert not known(broker, tmp_path, MEASURE_AFTER_S + WAIT_S, wanted=True)
    runs.insert(0, False)
    assert known(broker, tmp_path, MEASURE_AFTER_S + MEASURE_AGAIN_S + WAIT_S, wanted=True)

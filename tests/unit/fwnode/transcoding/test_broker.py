"""Renditions by number until the host was measured, by cost from then on; what load makes of them."""

from types import SimpleNamespace
from typing import Any

import pytest

from devices.admission import MOVE_S, SETTLE_S, SUSTAINED_S
from devices.cost import CodecCost, Rate
from devices.model import CPU, Choice, Kind
from devices.survey import Finding, Host, Survey
from fwnode.transcoding.broker import REPORT_S, Broker
from media.track.model import Codec
from media.transcode.capacity import Cost, cost_of
from media.transcode.ladder import SourceVideo, parse_policy, plan
from media.transcode.toll import Toll
from media.transcode.wire import X264, Spent

SOURCE = SourceVideo(Codec.H264, 1920, 1080, 30.0, 6_000_000)
PIXEL_S = 1 / (30 * 1280 * 720)  # one core for 720p30
FREE = CodecCost(Rate(), Rate())


def finding(name: str, kind: Kind, device: str, cores: float, choice: Choice | None = None) -> Finding:
    rate = Rate(0.0, cores * PIXEL_S, 0.0)
    how = choice or Choice(name, device, "yuv420p", {"preset": "veryfast"})
    cost = CodecCost(rate, rate if device == CPU else Rate())
    return Finding(name, kind, "h264", how, True, cost=cost)


DECODER = Finding("h264", Kind.DECODER, "h264", Choice("h264", CPU, "yuv420p"), True, cost=FREE)
SOFT = finding("libx264", Kind.ENCODER, CPU, 1.0)
CARD = finding("h264_nvenc", Kind.ENCODER, "gpu", 0.1, Choice("h264_nvenc", "gpu", "nv12", {"rc": "vbr"}))


def host(*findings: Finding, cores: float = 2.5) -> Survey:
    return Survey(Host("cpu", cores, 0, (), "", ""), (DECODER, *findings), Rate())


def cost(ladder: str = "720p@3m, 480p@1m") -> Cost:
    return cost_of(SOURCE, plan(parse_policy(ladder), SOURCE).rungs)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def broker(clock: Clock) -> Broker:
    return Broker(1, lambda: clock.now, preset="fast")


def run(broker: Broker, clock: Clock, session: Any, cores: float, seconds: float) -> list[str]:
    """Stream a takes so many cores for so long; what the log is told."""
    said = []
    for _ in range(round(seconds / REPORT_S)):
        clock.now += REPORT_S
        session.toll.spent(Spent(cores * REPORT_S, 0.1, round(REPORT_S * 1e6)))
        said += broker.look({"a": session}, clock.now)
    return said


def test_by_number_before_anything_was_measured(broker: Broker, clock: Clock) -> None:
    assert not broker.wanted
    assert broker.reserve("a", cost()) == ""
    assert broker.wanted
    assert "transcode.streams" in broker.reserve("b", cost())
    assert broker.engine("a", 720) == X264
    assert broker.look({}, clock.now) == []
    assert (broker.free(clock.now), broker.engines()) == (0, [])
    broker.release("a")
    assert broker.reserve("b", cost()) == ""


def test_by_cost_afterwards(broker: Broker, clock: Clock) -> None:
    broker.adopt(host(SOFT, cores=4.0))
    assert broker.reserve("a", cost()) == ""  # 1.44 cores of the 3 that may be reserved
    assert broker.reserve("b", cost()) == ""
    engine = broker.engine("b", 480)
    assert engine is not None
    assert (engine.name, engine.options["preset"]) == ("libx264", "fast")
    assert "CPU of cpu" in broker.reserve("c", cost("720p@3m"))
    broker.release("a")
    assert broker.reserve("c", cost("720p@3m")) == ""
    assert broker.engines() == ["libx264"]


def test_what_finds_no_room_is_left_out_and_said(broker: Broker) -> None:
    broker.adopt(host(SOFT, cores=1.0))
    assert broker.reserve("a", cost()) == ""
    assert broker.engine("a", 480) is not None
    assert broker.engine("a", 720) is None
    assert broker.reason("a") == "no room on this machine for 720p"


def test_who_is_in_when_the_measurements_come_stays(broker: Broker) -> None:
    broker.reserve("a", cost())
    broker.adopt(host(SOFT, cores=0.1))
    assert broker.engine("a", 720) == broker.engine("a", 480) == X264
    assert broker.reason("a") == ""
    assert broker.reserve("a", cost()) == ""
    assert broker.reserve("b", cost()) != ""


def test_load_takes_renditions_and_gives_them_back(broker: Broker, clock: Clock) -> None:
    session = SimpleNamespace(toll=Toll(), lag=lambda now: 0.0)
    broker.adopt(host(SOFT))
    broker.reserve("a", cost())
    said = run(broker, clock, session, 4.0, SETTLE_S + SUSTAINED_S + 9)
    assert "a: 720p is given up, there is too much to do" in said
    assert broker.engine("a", 720) is None
    assert "720p" in broker.reason("a")
    said += run(broker, clock, session, 4.0, 3 * SETTLE_S + 2 * MOVE_S)
    assert any("of further streams" in line for line in said)
    assert any("elsewhere" in line for line in said)
    assert "another node" in broker.reason("a")
    assert broker.reserve("b", cost("480p@1m")) != ""
    said = run(broker, clock, session, 0.1, 240)
    assert "a: 720p is made again" in said
    assert broker.engine("a", 720) is not None


def test_cards_only_where_they_are_asked_for(clock: Clock) -> None:
    default = Broker(1, lambda: clock.now)
    default.adopt(host(SOFT, CARD))
    default.reserve("a", cost())
    assert default.engine("a", 720) == X264
    broker = Broker(1, lambda: clock.now, hardware=True)
    broker.adopt(host(SOFT, CARD))
    broker.reserve("a", cost())
    engine = broker.engine("a", 720)
    assert engine is not None
    assert (engine.name, engine.pixel_format, engine.options) == ("h264_nvenc", "nv12", {"rc": "vbr"})
    broker.failed("a", "no capable devices found")
    software = broker.engine("a", 480)
    assert software is not None
    assert software.name == "libx264"


def test_an_encoder_that_needs_pictures_on_the_card_is_not_used(clock: Clock) -> None:
    vaapi = finding("h264_vaapi", Kind.ENCODER, "gpu", 0.1, Choice("h264_vaapi", "gpu", "nv12", {}, "vaapi"))
    broker = Broker(1, lambda: clock.now, hardware=True)
    broker.adopt(host(SOFT, vaapi))
    broker.reserve("a", cost())
    engine = broker.engine("a", 720)
    assert engine is not None
    assert engine.name == "libx264"

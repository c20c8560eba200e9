"""An agent and a worker with a pipe between them, on a clock that a test turns."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fwnode.delivery import DeliverySettings, copied_streams
from fwnode.workers.crew import Crew
from fwnode.workers.lending import Lending, WorkerLink
from fwnode.workers.mirror import Mirror
from fwnode.workers.wire import HEAD, Counts, Start
from media.bitstream.duration import frame_duration
from media.deliver.audience import Audience
from media.deliver.poster.posters import Posters
from media.deliver.quality.board import Board
from media.errors import WireError
from media.package.window import LiveWindow
from media.track.registry import RegistrySettings, Streams

_SPEC = importlib.util.spec_from_file_location(
    "media_streams", Path(__file__).parents[2] / "media" / "conftest.py"
)
assert _SPEC is not None and _SPEC.loader is not None
by_hand: Any = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(by_hand)

SETTINGS = DeliverySettings("here", 12_000_000, 16_000_000, None, 100, {})
START = Start(1, SETTINGS, "", "", "info", "json")


class End:
    """A transport whose bytes wait until the test carries them over."""

    peer_host, peer_port, secure = "worker", 0, False

    def __init__(self) -> None:
        self.sent = bytearray()
        self.closed = False
        self.wake: float | None = None

    @property
    def queued_bytes(self) -> int:
        return len(self.sent)

    def send(self, *buffers: bytes) -> None:
        if not self.closed:
            self.sent += b"".join(buffers)

    def abort(self) -> None:
        self.closed = True

    close = abort

    def wake_at(self, when: float | None) -> None:
        self.wake = when

    def take(self, most: int) -> bytes:
        taken = bytes(self.sent[:most])
        del self.sent[:most]
        return taken


class Agent:
    """What the agent has."""

    def __init__(self, clock: Any) -> None:
        self.clock = clock
        self.start = START
        self.streams = Streams(RegistrySettings(), call_at=clock.call_at, measure=frame_duration)
        self.posters = Posters()
        self.audience = Audience()
        self.quality = Board(lambda name: self.streams.get(name) is not None)
        self.crew = Crew(2)
        self.lending = Lending(
            self.streams,
            self.posters,
            self.audience,
            quality=self.quality,
            history_us=16_000_000,
            now=clock.now,
        )

    def publish(self, name: str = "live") -> Any:
        return by_hand.Publisher(self.streams, self.clock, name)


class Pair:
    """One worker's link: `carry` moves everything there is, in chunks."""

    def __init__(self, agent: Agent, number: int = 1) -> None:
        self.agent = agent
        self.clock = agent.clock
        self.worker = agent.crew.workers[number - 1]
        self.noted: list[str] = []
        self.ours, self.theirs = End(), End()
        self.link = WorkerLink(
            self.ours,
            agent.lending,
            self.worker,
            START,
            self.clock.now,
            on_ready=lambda: self.noted.append("ready"),
            on_closed=lambda: self.noted.append("closed"),
        )
        length, _ = HEAD.unpack(self.ours.take(HEAD.size))
        self.started = self.ours.take(length)
        self.streams = copied_streams(SETTINGS, self.clock.call_at)
        self.mirror = Mirror(
            self.streams,
            lambda: 0,
            lambda: Counts(connections={"http": 1}, accepted=7, bytes_out=50),
            lambda event, stream, reason: self.noted.append(f"{event}: {reason}"),
            on_begin=lambda: self.noted.append(f"begin with {len(list(self.mirror))}"),
            on_drain=lambda: self.noted.append("drain"),
            on_renew=lambda: self.noted.append("renew"),
            on_lost=lambda: self.noted.append("lost"),
        )
        self.mirror.start(self.theirs, self.clock.now)

    def carry(self, chunk: int = 65536) -> None:
        while self.ours.sent or self.theirs.sent:
            for end, machine in ((self.ours, self.mirror), (self.theirs, self.link)):
                if end.sent:
                    data = end.take(chunk)
                    machine.receive(data, self.clock.now)
                    if not end.sent:
                        (self.link if machine is self.mirror else self.mirror).drained(self.clock.now)

    def find(self, name: str = "live") -> Any:
        """What a viewer of the worker gets."""
        return self.streams.find(name, self.clock.now)

    def report(self) -> None:
        self.mirror.on_deadline(self.clock.now)
        self.carry()

    def lose(self) -> None:
        """The process dies."""
        self.ours.abort()
        self.link.closed(self.clock.now)


def objects(window: LiveWindow) -> dict[str, Any]:
    """Every part, segment and init by its path."""
    found: dict[str, Any] = {}
    for segment in window.segments:
        for name, rendition in segment.renditions.items():
            found[f"{name}/init-{rendition.init}"] = window.init_bytes(name, rendition.init)
            if segment.complete:
                found[f"{name}/{segment.msn}"] = window.segment_bytes(name, segment.msn)
            for part in segment.complete_parts():
                found[f"{name}/{segment.msn}.{part.index}"] = window.part_bytes(name, segment.msn, part.index)
    return found


@pytest.fixture
def clock() -> Any:
    return by_hand.Clock()


@pytest.fixture
def agent(clock: Any) -> Agent:
    return Agent(clock)


@pytest.fixture
def connect(agent: Agent) -> Callable[..., Pair]:
    """Another worker."""
    return lambda number=1: Pair(agent, number)


@pytest.fixture
def pair(agent: Agent) -> Pair:
    return Pair(agent)


@pytest.fixture
def made() -> Callable[[LiveWindow], dict[str, Any]]:
    return objects


@pytest.fixture
def wrong() -> type[Exception]:
    return WireError

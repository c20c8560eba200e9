"""A worker that makes pictures of nothing, at once or when it is told to."""

from collections.abc import Callable
from typing import Any

import pytest

from media.track.registry import Streams
from media.transcode.capacity import StreamsAtMost
from media.transcode.ladder import parse_policy
from media.transcode.session import Session, TranscodeSettings
from media.transcode.transcoder import Transcoder
from media.transcode.wire import (
    HEADER_BYTES,
    Begin,
    Coded,
    Encoded,
    Flush,
    Flushed,
    FromWorker,
    Impossible,
    Opened,
    OpenedRung,
    parse_to_worker_untrusted,
)

# High 3.0, as x264 writes it.
CONFIG = bytes.fromhex("0142c00dffe100166742c00dda05067e7840000003004000000f03c50aa801000468ce0fc8")


class Worker:
    """Stands for the child process of one session."""

    def __init__(self, session: Session, now: Callable[[], float]) -> None:
        self.session, self._now = session, now
        self.begins: list[Begin] = []
        self.coded: list[Coded] = []
        self.refusal = ""  # of every source
        session.worker_started(now())

    def work(self, *, leave_out: Callable[[int, int], bool] = lambda rung, number: False) -> None:
        """Take what there is and answer it."""
        data, answers = self.session.take_output(), []
        while data:
            size = int.from_bytes(data[:HEADER_BYTES], "big")
            order = parse_to_worker_untrusted(data[HEADER_BYTES : HEADER_BYTES + size])
            data = data[HEADER_BYTES + size :]
            answers += self._answers(order, leave_out)
        self.session.receive(answers, self._now())

    def _answers(
        self, order: Begin | Coded | Flush, leave_out: Callable[[int, int], bool]
    ) -> list[FromWorker]:
        if isinstance(order, Begin):
            self.begins.append(order)
            if self.refusal:
                return [Impossible(order.number, self.refusal)]
            rungs = [OpenedRung(CONFIG, rung.side * 16 // 9, rung.side, 30.0) for rung in order.rungs]
            return [Opened(order.number, rungs, "")]
        if isinstance(order, Flush):
            return [Flushed()]
        self.coded.append(order)
        return [
            Encoded(rung, order.number, 0, False, b"")
            if leave_out(rung, order.number)
            else Encoded(rung, order.number, order.pts, order.keyframe, b"%d" % rung)
            for rung in range(len(self.begins[-1].rungs))
        ]


class House:
    """A registry with renditions."""

    def __init__(self, streams: Streams, clock: Any, ladder: str, streams_max: int, **settings: Any) -> None:
        self.streams, self.clock = streams, clock
        self.capacity = StreamsAtMost(streams_max)
        self.transcoder = Transcoder(
            streams, TranscodeSettings(parse_policy(ladder), **settings), self.capacity, lambda: 10**15
        )
        self.transcoder.follow(clock.now)

    @property
    def session(self) -> Session:
        return self.transcoder.sessions["live"]

    def worker(self) -> Worker:
        assert self.session.wants_worker(self.clock.now)
        return Worker(self.session, lambda: self.clock.now)

    def ladder(self) -> Any:
        return self.streams.get("live+ladder")


@pytest.fixture
def open_house(streams: Streams, clock: Any) -> Callable[..., House]:
    """`open_house("100p,90p")`: follows what is published."""

    def open_(ladder: str = "160p@300k, 144p@100k", streams_max: int = 2, **settings: Any) -> House:
        return House(streams, clock, ladder, streams_max, **settings)

    return open_

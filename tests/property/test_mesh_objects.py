"""Objects over streams that move: whatever happens to the streams, each comes once and in order."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.errors import WireError
from mesh.node.objects.frame import Frame, FrameReader, Kind, pack_frame, pack_refusal, refusal_of
from mesh.node.objects.mover import GIVE_UP_S, Close, Ended, Missed, Mover, Object, Open, Switched
from mesh.node.speed.pattern import count_of, digest, pack_request, parse_request_untrusted, part

COUNT = 12
TURNS_MAX = 400

ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "open",
                "confirm",
                "fail",
                "end",
                "begin",
                "whole",
                "idle",
                "gone",
                "move",
                "wait",
                "doubt",
                "rest",
            ]
        ),
        st.integers(0, 3),
    ),
    max_size=120,
)


def body(number: int) -> bytearray:
    return bytearray(b"%d" % number)


class World:
    """A peer with COUNT objects, the paths to it, and the reader's mover."""

    def __init__(self, seed: int) -> None:
        self.now = 100.0
        self.mover = Mover(0, Random(seed), self.now)
        self.open: dict[int, int | None] = {}  # the streams that exist -> number that comes next on it
        self.confirmed: set[int] = set()
        self.begun: set[int] = set()  # of their next object something has come
        self.oldest = 0
        self.found: list[object] = []
        self.ended: Ended | None = None

    def carry_out(self) -> None:
        for step in self.mover.steps():
            match step:
                case Open():
                    assert step.avoid is None or step.avoid in self.open
                    self.open[step.stream] = None
                    assert len(self.open) <= 2
                case Close():
                    self.close(step.stream)
                case Switched():
                    assert step.stream in self.confirmed
                    assert self.mover.current == step.stream
        while self.ended is None and (result := self.mover.result()) is not None:
            if isinstance(result, Ended):
                self.ended = result
            else:
                self.found.append(result)

    def close(self, stream: int) -> None:
        del self.open[stream]
        self.confirmed.discard(stream)
        self.begun.discard(stream)

    @property
    def other(self) -> int | None:
        return next((stream for stream in self.open if stream != self.mover.current), None)

    def act(self, what: str, how: int) -> None:
        """One thing that may happen, if it may happen now."""
        mover, current, other = self.mover, self.mover.current, self.other
        self.now += 0.01
        if what == "open" and other is not None and self.open[other] is None:
            self.open[other] = mover.opened(other, best=how > 0)
            assert self.open[other] is not None
        elif what == "confirm" and other is not None and self.open[other] is not None:
            self.confirmed.add(other)
            assert mover.ready(other, self.now)
        elif what == "fail" and other is not None:
            self.close(other)
            mover.lost(other, "no way", self.now, unserved=False)
        elif what == "end" and current is not None:
            self.close(current)
            mover.lost(current, "cut", self.now)
        elif what == "move":
            mover.link_changed(self.now)
        elif what in ("wait", "doubt"):
            self.now += how
            mover.on_deadline(self.now, doubted=what == "doubt")
        elif what == "rest":
            mover.pause(self.now)
            self.now += 30.0 * how
            mover.resume(self.now)
        elif what == "gone":
            self.oldest = min(self.oldest + how, COUNT)
        elif current is not None:
            self.say(current, what)
        self.carry_out()

    def say(self, stream: int, what: str) -> None:
        """The peer says something on the current stream."""
        number = self.open[stream]
        assert number is not None
        if what == "begin" and number < COUNT and number >= self.oldest:
            self.begun.add(stream)
            self.mover.heard(number, self.now)
            return
        self.mover.heard(None, self.now)
        if stream not in self.begun and number < self.oldest:
            self.open[stream] = self.oldest
            self.mover.receive(Frame(Kind.GONE, self.oldest, bytearray()), self.now)
        elif what == "whole" and number < COUNT:
            self.begun.discard(stream)
            self.open[stream] = number + 1
            self.mover.receive(Frame(Kind.OBJECT, number, body(number)), self.now)
        elif stream not in self.begun:
            kind = Kind.END if number == COUNT and what == "whole" else Kind.IDLE
            self.mover.receive(Frame(kind, number, bytearray()), self.now)
        else:
            self.mover.heard(number, self.now)

    def finish(self) -> None:
        """All goes well from now on."""
        for _ in range(TURNS_MAX):
            if self.ended is not None:
                return
            for what in ("open", "confirm", "whole", "wait"):
                self.act(what, 1)
        raise AssertionError("it never ends")


@given(ACTIONS, st.integers(0, 9))
def test_each_object_once_and_in_order(actions: list[tuple[str, int]], seed: int) -> None:
    world = World(seed)
    world.carry_out()
    for what, how in actions:
        if world.ended is not None:
            break
        world.act(what, how)
    world.finish()
    assert world.ended is not None
    assert world.ended.reason in ("", "cut", "no way", "no stream was opened")
    needed = 0
    for found in world.found:
        if isinstance(found, Missed):
            assert found.first == needed < found.next <= world.oldest
            needed = found.next
        else:
            assert found == Object(needed, body(needed))
            needed += 1
    if not world.ended.reason:
        assert needed == COUNT
    assert not world.open


@given(st.lists(st.sampled_from(["open", "confirm", "fail", "end", "move"]), max_size=60))
def test_it_gives_up_when_nothing_comes(actions: list[str]) -> None:
    world = World(1)
    world.carry_out()
    for what in actions:
        world.act(what, 1)
    for _ in range(2 * round(GIVE_UP_S)):
        if world.ended is None:
            world.act("fail", 0)
            world.act("end", 0)
            world.act("wait", 1)
    assert world.ended is not None
    assert world.ended.reason


@given(st.lists(st.tuples(st.integers(0, 99), st.binary(max_size=40)), max_size=8), st.integers(1, 30))
def test_frames_come_as_they_were_sent(objects: list[tuple[int, bytes]], chunk: int) -> None:
    wire = b"".join(pack_frame(Kind.OBJECT, number, len(data)) + data for number, data in objects)
    wire += pack_frame(Kind.IDLE, 5) + pack_refusal("no\n")
    frames = list(read(wire, chunk))
    assert [(frame.number, bytes(frame.data)) for frame in frames[:-2]] == objects
    assert (frames[-2].kind, frames[-2].number) == (Kind.IDLE, 5)
    assert refusal_of(frames[-1]) == "no?"


def read(wire: bytes, chunk: int) -> list[Frame]:
    reader, frames, at = FrameReader(), [], 0
    while at < len(wire):
        space = reader.space()
        assert len(space)
        count = min(chunk, len(space), len(wire) - at)
        space[:count] = wire[at : at + count]
        space.release()
        at += count
        if (frame := reader.filled(count)) is not None:
            frames.append(frame)
    return frames


@given(st.binary(min_size=13, max_size=200))
def test_garbage_raises_only_wire_errors(data: bytes) -> None:
    try:
        read(data, 13)
    except WireError:
        pass


@given(st.binary(min_size=16, max_size=16), st.integers(1, 600_000))
def test_a_speed_test_is_the_same_at_both_ends(seed: bytes, total: int) -> None:
    assert parse_request_untrusted(pack_request(seed, total)) == (seed, total)
    parts = [part(seed, total, number) for number in range(count_of(total))]
    assert sum(map(len, parts)) == total
    assert digest(seed, total, len(parts)) == digest(seed, total, len(parts))
    assert len(set(parts)) == len(parts)


@given(st.binary(max_size=40))
def test_requests_for_speed_tests_that_are_none(data: bytes) -> None:
    try:
        seed, total = parse_request_untrusted(data)
    except WireError:
        return
    assert pack_request(seed, total) == data


def test_too_long_a_frame() -> None:
    with pytest.raises(WireError, match="too many"):
        read(pack_frame(Kind.IDLE, 0, 1), 13)

"""Keeps one stream coming: from one parent, beside which others are asked before it is too late.

Everything of one copy happens on one task for each line, a connection to a node that may be or become the
parent, and one that decides. A line begins as a candidate; what it brings is only looked at (`Trial`) until
it replaces the present parent, in one step and without a pause: the replica goes on behind what it has.
"""

import enum
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

import structlog
import trio

from fwnode.replication.answer import AnswerReader
from fwnode.replication.copy import Copy
from fwnode.replication.fetching.change import LOOK_S, Change
from fwnode.replication.fetching.pace import Delay, Rhythm, first_history_us
from fwnode.replication.fetching.tracks import Tracks
from fwnode.replication.fetching.trial import Trial
from fwnode.replication.giving.service import SERVICE
from fwnode.replication.liars import Liars
from fwnode.replication.model import Counters
from media.errors import WireError
from media.replicate.replica import Conflicted, Ended, Event, Failed, Lost, Skipped
from media.replicate.wire import Alive, Want, encode
from media.track.stream import StreamState
from mesh.errors import MeshError
from mesh.link.model import Connection
from mesh.model import NodeId
from mesh.node.service import MeshNode
from mesh.routing.owners import Publication
from mesh.routing.parents import Choice, Member

OPEN_S = 12.0  # a link, then a way to the parent
ANSWER_S = 5.0
DEAD_S = 3.0  # silent for so long it has gone: beyond what TCP needs to send a lost packet again
HEDGE_S = 0.6  # for a node that is asked in need to answer, before the next is asked as well
CANDIDATES_MAX = 3  # asked at a time; each that sends costs the stream's bitrate
TRIAL_S = 5.0  # for a candidate that answered to get as far as it must
RETRY_S = 0.25  # between looks for a parent when there is none
QUIET_S = 3.0  # no packet of a live stream for so long from a parent that says that it is there: it may lie
QUIET_MAX_S = 120.0  # slides: others were asked, doubled each time, and had no more
AHEAD_US = 300_000  # what one who is to be better than a slow parent must have more; a part
BEAR_S = 5.0  # a slow parent is borne so long before others are asked again; doubled each time
BEAR_MAX_S = 300.0
DOUBLINGS_MAX = 8  # beyond BEAR_MAX_S and QUIET_MAX_S; keeps the number small
TICK_MIN_S = 0.02
HUNG_UP = "the parent hung up"  # one that goes on purpose says why before


class Why(enum.Enum):
    """What a candidate is asked for."""

    NOBODY = "there is no parent"
    SILENT = "the parent is silent"
    QUIET = "nothing new comes from the parent"
    SLOW = "the parent is slower than the stream"
    BETTER = "it would be a better parent"


@dataclass(eq=False, slots=True)
class _Line:
    """A connection to a node that may become, is or was the parent."""

    parent: NodeId
    why: Why
    began_at: float
    rhythm: Rhythm
    delay: Delay
    tracks: tuple[int, ...]  # asked for
    last_resort: bool  # there is nobody else: it is asked to give beyond its budget
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    asked_anew: trio.Event = field(default_factory=trio.Event)
    publication: Publication | None = None  # once it has answered
    answered_at: float = 0.0
    after: tuple[int, int] | None = None  # what it was asked to go on behind
    trial: Trial | None = None
    taken_at: float = 0.0  # as the parent

    def hang_up(self) -> None:
        self.scope.cancel()


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a follower needs of its node."""

    mesh: MeshNode
    members: Callable[[str], list[Member]]  # who says that it carries a stream
    clock: Callable[[], float]
    fed: Callable[[Copy], Collection[frozenset[int]]]  # tracks that each edge fed from here wants
    let_go: Callable[[Copy], None]  # sends the edges that are fed from here away
    on_news: Callable[[], None]
    window_us: int  # of playlists
    linger_s: float  # how long publishers may be away
    liars: Liars
    counters: Counters


class Follower:
    """Takes one publication of a stream from one parent after another, until it ends or is lost."""

    def __init__(self, copy: Copy, around: Surroundings) -> None:
        now = around.clock()
        self._copy = copy
        self._around = around
        self._current: _Line | None = None
        self._candidates: list[_Line] = []
        self.begins_anew = False  # it ended only for those who watch it now
        self._over = ""  # why it has ended
        self._stopped = False
        self._wake = trio.Event()
        self._change = Change()
        self._tracks = Tracks(now)
        self._slow = False  # the present parent is, and nobody else was found yet
        self._judge_at = now  # not before, whether the parent is slow
        self._borne = 0  # times that it was, and nobody better
        self._look_at = now  # not before, for candidates in need
        self._better_at = now + LOOK_S
        self._packet_at = now  # when the newest packet came
        self._packet_us = -1
        self._quiet_s = QUIET_S
        self._nobody = ""  # why there is no parent
        self._last_resort = False  # whom is asked next is the only one
        self._log = structlog.get_logger()

    async def run(self) -> str:
        """Returns why it ended, "" after `stop`."""
        async with trio.open_nursery() as nursery:
            while not self._over:
                self._wake = trio.Event()
                for line in self._turn(self._around.clock()):
                    nursery.start_soon(self._keep, line)
                with trio.move_on_after(self._pause_s(self._around.clock())):
                    await self._wake.wait()
            nursery.cancel_scope.cancel()
        return "" if self._stopped else self._over

    def stop(self) -> None:
        """Another publication follows: take nothing more of this one, from now on."""
        self._stopped, self._over = True, "another publication follows"
        if self._current is not None:
            self._current.hang_up()
        for line in self._candidates:
            line.hang_up()
        self._current = None
        self._candidates.clear()
        self._wake.set()

    # --- deciding

    def _turn(self, now: float) -> list[_Line]:
        """Look at all lines; returns those to begin."""
        self._look_at_current(now)
        for line in list(self._candidates):
            self._look_at_candidate(line, now)
        if self._copy.is_alone(now):
            self._copy.replica.writer.rest(now)
        more_s = OPEN_S if self._candidates else 0.0
        if self._copy.is_lost(now, more_s, linger_s=self._around.linger_s):
            self._over = f"nobody gives it any more: {self._nobody}"
            return []
        begun = self._look(now)
        if begun is None:
            return []
        self._candidates.append(begun)
        return [begun]

    def _pause_s(self, now: float) -> float:
        """Until something may have to be decided."""
        due = [self._better_at]
        line = self._current
        if line is None or self._candidates or self._slow:
            due.append(now + RETRY_S)
        if line is not None:
            due.append(line.rhythm.heard_at + line.rhythm.patience_s)
            if self._copy.stream.state is StreamState.LIVE:
                due.append(self._packet_at + self._quiet_s)
        return max(min(due) - now, TICK_MIN_S)

    def _look_at_current(self, now: float) -> None:
        line, copy = self._current, self._copy
        if line is None:
            return
        if now - line.rhythm.heard_at > DEAD_S:
            self._drop(line, "nothing came any more", now)
            return
        copy.late_s = line.delay.late_s
        slow = line.delay.is_slow(now) and not line.rhythm.is_silent(now)
        if slow and not self._slow and now >= self._judge_at:
            self._found_slow(line, f"{copy.late_s:.1f} s late", now)
        if self._tracks.raise_again(now):
            self._say_lowered("")
            line.delay.forgive(now)
        self._ask_for_tracks(line, now)

    def _found_slow(self, line: _Line, how: str, now: float) -> None:
        self._slow, self._look_at = True, now
        self._copy.weaken(line.parent, "slower than the stream", now)
        self._log.info("parent is slow", stream=self._copy.name, peer=self._name(line.parent), late=how)

    def _ask_for_tracks(self, line: _Line, now: float) -> None:
        wanted = self._wanted(now)
        if wanted != line.tracks:
            line.tracks = wanted
            line.asked_anew.set()

    def _wanted(self, now: float) -> tuple[int, ...]:
        return self._tracks.wanted(self._copy.stream, self._around.fed(self._copy), now)

    def _look_at_candidate(self, line: _Line, now: float) -> None:
        current = self._current
        answered = line.trial is not None
        if line.why is Why.SILENT and current is not None and not current.rhythm.is_silent(now):
            self._drop(line, "", now)  # a false alarm
        elif answered and not self._goes_on(line):
            self._drop(line, "", now)  # the first part came from another one since: it is asked again
        elif answered and self._may_replace(line, now):
            self._promote(line, now)
        elif answered and line.why is not Why.SILENT and now - line.answered_at > TRIAL_S:
            self._drop(line, "it does not get as far as the present parent", now)

    def _look(self, now: float) -> _Line | None:
        """Who is to be asked now."""
        why = self._why(now)
        if why is None or len(self._candidates) >= CANDIDATES_MAX:
            return None
        hurry = why in (Why.NOBODY, Why.SILENT)
        if self._candidates and (not hurry or now - self._candidates[-1].began_at < HEDGE_S):
            return None
        node = self._choose(why, now)
        if node is None:
            return None
        last_resort, self._last_resort = self._last_resort, False
        line = _Line(node, why, now, Rhythm(now), Delay(now), self._wanted(now), last_resort)
        if why is not Why.NOBODY:
            self._log.info(
                "another parent is asked", stream=self._copy.name, peer=self._name(node), reason=why.value
            )
        return line

    def _why(self, now: float) -> Why | None:
        line = self._current
        if line is None:
            return Why.NOBODY if now >= self._look_at else None
        if line.rhythm.is_silent(now):
            return Why.SILENT if now >= self._look_at else None
        if self._slow:
            return Why.SLOW
        if self._copy.stream.state is StreamState.LIVE and now - self._packet_at > self._quiet_s:
            return Why.QUIET
        if now >= self._better_at and not self._candidates:
            self._better_at = now + LOOK_S
            return Why.BETTER
        return None

    def _choose(self, why: Why, now: float) -> NodeId | None:
        copy = self._copy
        asked = [line.parent for line in self._candidates]
        weak = "" if why in (Why.NOBODY, Why.BETTER) else why.value
        choice = copy.choose(self._around.members(copy.name), now, asked=asked, weak=weak)
        if why is Why.NOBODY:
            return self._choose_first(choice, now)
        if why is Why.BETTER:
            found = None if choice.starved else self._change.look(choice, copy.parent, now)
            if found is not None:
                self._change.began(now)
            return found
        found = None if choice.starved or choice.parent == copy.parent else choice.parent
        if why is Why.SILENT:
            self._look_at = now + (0.0 if found else RETRY_S)
        elif why is Why.QUIET:
            self._packet_at = now
            self._quiet_s = min(QUIET_MAX_S, 2 * self._quiet_s)
        elif found is None or copy.is_weak(found):
            found = None
            self._bear_it(now)
        return found

    def _choose_first(self, choice: Choice, now: float) -> NodeId | None:
        if choice.starved:
            if not self._candidates:
                self._around.let_go(self._copy)
                self._copy.begin_anew()
                self._wake.set()
            return None
        self._nobody = choice.reason
        self._last_resort = choice.last_resort
        if choice.parent is None:
            self._look_at = now + RETRY_S
        return choice.parent

    def _bear_it(self, now: float) -> None:
        """Nobody is better than a slow parent: take less from it, if there is less."""
        assert self._current is not None
        self._slow = False
        self._judge_at = now + min(BEAR_MAX_S, BEAR_S * 2**self._borne)
        self._borne = min(self._borne + 1, DOUBLINGS_MAX)
        self._current.delay.forgive(now)
        if self._tracks.lower(self._copy.stream, self._around.fed(self._copy), now):
            self._say_lowered("its parent is slower than the stream, and no other is better")
            self._ask_for_tracks(self._current, now)

    def _say_lowered(self, reason: str) -> None:
        copy = self._copy
        copy.lowered = reason or (copy.lowered if self._tracks.left_out else "")
        event = "fewer pictures are fetched" if reason else "a larger picture is tried again"
        self._log.info(event, stream=copy.name, left_out=self._tracks.left_out)
        self._around.on_news()

    # --- changing

    def _may_replace(self, line: _Line, now: float) -> bool:
        """Whether viewers lose nothing when this candidate becomes the parent now."""
        current, trial = self._current, line.trial
        assert trial is not None
        if current is None:
            return self._goes_on(line)
        if trial.goes or trial.leaps or not self._goes_on(line):
            return False
        ours_us = self._copy.stream.newest_us
        match line.why:
            case Why.SILENT:
                return current.rhythm.is_silent(now) and trial.newest_us > ours_us
            case Why.SLOW | Why.QUIET:
                return trial.newest_us >= ours_us + AHEAD_US
            case _:
                return trial.newest_us >= ours_us - self._copy.stream.part_target_us

    def _goes_on(self, line: _Line) -> bool:
        """Whether it was asked to go on behind what is held here, if anything is."""
        return line.after is not None or self._copy.replica.follows_on is None

    def _promote(self, line: _Line, now: float) -> None:
        """Take the stream from this candidate from here on."""
        copy, old, trial = self._copy, self._current, line.trial
        assert trial is not None and line.publication is not None
        self._candidates.remove(line)
        if objection := copy.objection(line.parent, line.publication, trial.depth):
            self._leave(line, objection, now)
            return
        if old is not None:
            if line.why in (Why.SILENT, Why.QUIET):
                copy.weaken(old.parent, "it fell silent", now)
            self._current = None
            self._leave(old, f"{self._name(line.parent)} is taken: {line.why.value}", now)
        for other in self._candidates:
            other.hang_up()
        self._candidates.clear()
        self._current, self._slow = line, False
        self._judge_at, self._borne = now, 0
        line.taken_at = line.rhythm.heard_at = now
        self._better_at = now + LOOK_S
        line.trial = None
        line.delay.forgive(now)
        self._around.counters.parent_changes += copy.changes > 0
        copy.adopted(line.parent, trial.depth, now)
        copy.replica.adopt(line.tracks)
        self._log.info("stream fetched", stream=copy.name, peer=self._name(line.parent), depth=copy.depth)
        self._around.on_news()
        if trouble := self._feed(line, trial.take(), now):
            self._drop(line, trouble, now)

    def _drop(self, line: _Line, trouble: "str | Failed", now: float) -> None:
        """Have no more to do with a line. Without trouble its node is not to blame."""
        if self._over:
            return
        if line is self._current:
            self._current, self._slow = None, False
        elif line in self._candidates:
            self._candidates.remove(line)
        else:
            return
        line.hang_up()
        if trouble:
            self._leave(line, trouble, now)
        self._look_at = now
        self._wake.set()

    def _leave(self, line: _Line, trouble: "str | Failed", now: float) -> None:
        """For a moment, or for ever if it gave what the origin did not sign."""
        copy, peer = self._copy, self._name(line.parent)
        line.hang_up()
        if isinstance(trouble, Failed):
            failure = trouble.failure
            self._around.counters.altered += 1
            self._around.liars.caught(line.parent, copy.publication.origin, failure)
            self._log.error(
                "a node gave altered media",
                stream=copy.name,
                peer=peer,
                fault=failure.fault.value,
                segment=failure.segment,
                part=failure.part,
                signed=failure.signed.hex(),
                found=failure.found.hex(),
            )
            copy.left(line.parent, "it altered media", now, for_ever=True)
        else:
            self._log.info("parent left", stream=copy.name, peer=peer, reason=trouble)
            copy.left(line.parent, trouble, now)
        self._around.on_news()

    def _name(self, node: NodeId) -> str:
        return self._around.mesh.core.name_of(node)

    # --- receiving

    async def _keep(self, line: _Line) -> None:
        """Have a line until it fails or is hung up on."""
        with line.scope:
            trouble = await self._attempt(line)
            self._drop(line, trouble, self._around.clock())

    async def _attempt(self, line: _Line) -> "str | Failed":
        """Returns what went wrong."""
        try:
            with trio.fail_after(OPEN_S):
                name = self._copy.name.encode()
                connection = await self._around.mesh.open_stream(line.parent, SERVICE, name)
        except (MeshError, OSError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
            return str(error) or type(error).__name__
        except trio.TooSlowError:
            return "no connection in time"
        try:
            history_us = self._history_us(line.parent)
            want = self._copy.replica.want(line.tracks, history_us, last_resort=line.last_resort)
            line.after = want.after
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._say_wants, line, connection, want)
                trouble = await self._hear(line, connection)
                nursery.cancel_scope.cancel()
            return trouble
        finally:
            connection.close()

    async def _say_wants(self, line: _Line, connection: Connection, want: Want) -> None:
        """What is wanted, and again whenever other tracks are."""
        try:
            while True:
                await connection.send_all(encode(want))
                await line.asked_anew.wait()
                line.asked_anew = trio.Event()
                want = self._copy.replica.want(line.tracks)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return  # who receives on it finds out as well

    def _history_us(self, parent: NodeId) -> int:
        """How much of the past is worth its time; all of it when there is something already to go on from."""
        found = [member for member in self._around.members(self._copy.name) if member.node == parent]
        if not found or self._copy.changes:
            return self._around.window_us
        member = found[0]
        return first_history_us(member.carried.bitrate_bps, member.rtt_s, self._around.window_us)

    async def _hear(self, line: _Line, connection: Connection) -> "str | Failed":
        try:
            data = await self._await_answer(line, connection)
            while True:
                now = self._around.clock()
                line.rhythm.heard(now)
                trouble = self._take(line, data, now) if data else None
                if trouble is not None:
                    return trouble
                data = await connection.receive_some()
                if not data:
                    raise WireError(HUNG_UP)
        except (WireError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
            return str(error) or "the connection broke"
        except trio.TooSlowError:
            return "no answer in time"

    async def _await_answer(self, line: _Line, connection: Connection) -> bytes:
        """What came behind the answer. Raises WireError for one that this copy cannot do with."""
        reader = AnswerReader()
        data = b""
        with trio.fail_after(ANSWER_S):
            while reader.answer is None:
                some = await connection.receive_some()
                if not some:
                    raise WireError(HUNG_UP)
                data = reader.feed(some)
        answer = reader.answer
        if answer.refusal:
            if answer.full:
                self._copy.is_full(line.parent, self._around.clock())
            raise WireError(answer.refusal)
        if line not in self._candidates:
            raise WireError("it was hung up on")
        line.publication = Publication(answer.epoch_unix_us, answer.origin)
        if objection := self._copy.objection(line.parent, line.publication, answer.depth):
            raise WireError(objection)
        if self._copy.replica.is_ahead(answer.segment):
            self._end_for_viewers(answer.depth)
        now = self._around.clock()
        line.answered_at = now
        line.trial = Trial(answer.depth)
        if self._may_replace(line, now):
            self._promote(line, now)
        return data

    def _end_for_viewers(self, depth: int) -> None:
        """Those here are ahead of what a parent has. If it is the origin the stream ends for them.

        Who asks again gets another one of that name, with the numbers of its present origin.
        """
        if depth == 0:
            self._over, self.begins_anew = "it goes on elsewhere with lower numbers", True
            self._wake.set()
        raise WireError("its numbers are behind those that viewers here have")

    def _take(self, line: _Line, data: bytes, now: float) -> "str | Failed | None":
        """Bytes of a line; returns why to leave it."""
        if line is self._current:
            return self._feed(line, data, now)
        trial = line.trial
        if trial is None or line not in self._candidates:
            return None  # it was hung up on a moment ago
        trial.receive(data)
        if self._may_replace(line, now):
            self._promote(line, now)
            return None
        return trial.goes or None

    def _feed(self, line: _Line, data: bytes, now: float) -> "str | Failed | None":
        """Bytes of the present parent, as far as they are the origin's; returns why to leave it."""
        try:
            return self._receive(line, data, now)
        except WireError as error:
            return str(error)
        except Exception:  # a fault of ours in what one parent sent costs this stream that parent only
            self._log.exception("fault", stream=self._copy.name)
            return "a fault of this program"

    def _receive(self, line: _Line, data: bytes, now: float) -> "str | Failed | None":
        copy, counters = self._copy, self._around.counters
        copy.heard_at = now
        trouble: str | Failed | None = None
        before = copy.replica.verified
        counters.bytes_in += len(data)
        try:
            for event in copy.replica.receive(data, now) if data else ():
                trouble = trouble or self._note(line, event, now)
        finally:
            counters.verified_parts += copy.replica.verified - before
        newest_us = copy.stream.newest_us
        if newest_us != self._packet_us:
            copy.brought()
            self._packet_us, self._packet_at, self._quiet_s = newest_us, now, QUIET_S
        return trouble

    def _note(self, line: _Line, event: Event, now: float) -> "str | Failed | None":
        copy = self._copy
        match event:
            case Alive():
                line.delay.heard(event, copy.stream.newest_us, now)
                before = copy.depth
                trouble = copy.moved(event.depth)
                if copy.depth != before:
                    self._log.info("parent moved", stream=copy.name, depth=copy.depth)
                    self._around.on_news()
                return trouble or None
            case Ended():
                self._over = "the stream has ended"
                self._wake.set()
            case Lost():
                if event.full:
                    copy.is_full(line.parent, now)
                return event.reason or "it sends no more"
            case Failed():
                return event
            case Conflicted():
                self._log.info("parents differ", stream=copy.name)
            case Skipped():
                copy.skips += 1
                self._around.counters.skips += 1
                self._log.info("media skipped", stream=copy.name)
                if now - line.taken_at > TRIAL_S and not self._slow:
                    self._found_slow(line, "media was skipped", now)
                    self._wake.set()
        return None

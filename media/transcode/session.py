"""One stream's renditions: what its worker is given, and what becomes of what it makes. Pure.

The renditions are a stream of their own beside the source's, its ladder (media.track.derived), and
not further tracks of the source's ring. They come a decoder's and an encoder's delay after the
source: in one ring with it they would hold every viewer of the source back by that, or be marked
into parts that were told complete, and signed, before. A stream of its own leaves the source
untouched whatever the worker does, is bounded by a ring of its own, is signed, fetched and
packaged on other nodes as any stream is, and its playlists are in step because its packets have
the source's marks (media.transcode.splice).

The worker is given every picture from a keyframe that begins a segment on; what comes while it
starts waits for it, as the next keyframe may be far away. What it does not take in time is dropped
up to the next keyframe, and is a gap in the ladder; when that happens often, the largest rung is
given up for a while. The source waits for nothing of this.
"""

from collections import deque
from collections.abc import Callable
from typing import Literal

import msgspec

from media.errors import Refused
from media.track.derived import ladder_of
from media.track.marked import MarkedWriter
from media.track.model import Kind, Packet, Track
from media.track.stream import Section, Source, Stream, StreamState
from media.transcode.capacity import Capacity, cost_of
from media.transcode.ladder import Plan, PlannedRung, Policy, SourceVideo, plan
from media.transcode.remarks import Remarks
from media.transcode.rungs import numbered, opened_tracks, same_tracks
from media.transcode.splice import Splice, contiguous
from media.transcode.toll import Toll
from media.transcode.wire import (
    Begin,
    Coded,
    Damaged,
    Encoded,
    Engine,
    Flush,
    Flushed,
    FromWorker,
    Impossible,
    Opened,
    RungOrder,
    Spent,
    encode,
)

OUTPUT_MAX_BYTES = 16 * 1024 * 1024  # that the worker did not take yet: seconds of 1080p, one huge picture
OUTPUT_MAX_US = 1_500_000  # and so much media time: later than this, playlists of the ladder have no edge
LATE_US = 3_000_000  # pictures that are not back after so much media time are given up
LATE_PLACES = 40  # unless they are few: a decoder holds up to 16 of a slow source, an encoder 20
HELD_US = 8_000_000  # and in any case after so much: sound waits with them
STALL_S = 5.0  # the worker has work and says nothing for so long: it hangs
START_S = 4.0  # a worker that has just begun may be late so long; measured: 0.2 s, ten times that under load
FLUSH_S = 1.0  # for the last pictures of a publisher that went
OVERRUNS_MAX = 3  # in OVERRUN_WINDOW_S: this machine is too slow for the ladder
OVERRUN_WINDOW_S = 30.0
SHED_S = 60.0  # a rung that was given up is tried again after so long, each time twice that
SHED_MAX_S = 960.0
REFUSED_S = 5.0  # until admission is asked again
IDLE_S = 30.0  # on demand: nobody asked for a rendition for so long
BEGINS_MAX = 8  # that the worker did not answer; it answers the last one of them

_SOURCE = Source(protocol="transcode", peer="local", agent="fwnode")

OpenLadder = Callable[[str, Source, float, Callable[[str], None]], MarkedWriter]


class TranscodeSettings(msgspec.Struct, frozen=True):
    """What is the same for every stream of a node."""

    policy: Policy = Policy()
    preset: str = "veryfast"
    latency: Literal["low", "quality"] = "low"
    threads: int = 0  # 0: as the worker finds right
    on_demand: bool = False


class Session:
    """Follows one source from its first packet until it ended."""

    def __init__(
        self,
        stream: Stream,
        settings: TranscodeSettings,
        capacity: Capacity,
        open_ladder: OpenLadder,
        on_work: Callable[[], None],
        now: float,
    ) -> None:
        """`open_ladder(name, source, now, on_stop)` begins the stream; may raise Refused.

        `on_work` is called when `wants_worker` or what `take_output` gives may have changed.
        """
        self.stream = stream
        self.overruns = self.worker_losses = self.damaged = 0
        self.toll = Toll()
        self._settings, self._capacity = settings, capacity
        self._open_ladder, self._on_work = open_ladder, on_work
        self._remarks = Remarks(stream)
        self._splice = Splice()
        self._index = stream.ring.first
        self._section: Section | None = None
        self._segment = -1
        self._lead: Track | None = None  # the track that is transcoded
        self._source_video: SourceVideo | None = None
        self._plan = Plan()
        self._refusal = ""  # why there are fewer rungs than planned
        self._rungs: tuple[PlannedRung, ...] = ()  # of the plan, that were admitted
        self._engines: dict[int, Engine] = {}  # that the worker was told of, by side
        self._refused_until = 0.0
        self._writer: MarkedWriter | None = None
        self._ladder_at = now
        self._tracks: tuple[Track, ...] = ()  # renditions as they were opened last
        self._announced = False  # the ladder's tracks of this section are known
        self._written: Packet | None = None
        self._stopped = False  # somebody stopped the ladder
        self._impossible = False
        self._worker = self._feeding = self._following = False
        self._begin_wanted = True
        self._begins: dict[int, tuple[int, list[int]]] = {}  # discontinuity and sides, by number
        self._number = 0
        self._output: deque[tuple[bytes, int]] = deque()  # message, media time
        self._output_bytes = 0
        self._heard_at = now
        self._unanswered = 0  # pictures since it said something
        self._patient_until = 0.0
        self._flush_until: float | None = None
        self._shed = 0
        self._shed_until, self._shed_s = 0.0, SHED_S
        self._overran_at: deque[float] = deque(maxlen=OVERRUNS_MAX)
        stream.subscribe(self._news)
        self._news(now)

    @property
    def ladder(self) -> Stream | None:
        """The stream of renditions, from when it is known that there will be some."""
        return self._writer.stream if self._writer is not None else None

    def close(self, reason: str, now: float) -> None:
        """Make no more."""
        self.stream.unsubscribe(self._news)
        self._remarks.clear()
        self._capacity.release(self.stream.name)
        self._close_ladder(reason, now)
        self._rungs = ()
        self._on_work()

    def lag(self, now: float) -> float:
        """How late the next picture of a rendition is, in segments; 0 while a worker starts."""
        waiting = self._splice.waiting
        if waiting is None or self._is_starting(now):
            return 0.0
        return max(0, self.stream.newest_us - waiting[1]) / max(1, self.stream.target_duration_us)

    # --- the worker's side

    def wants_worker(self, now: float) -> bool:
        """Should a child process run now?"""
        if not self._rungs or self._writer is None or self._impossible:
            return False
        if self.stream.state is StreamState.ENDED:
            return self._worker and self._flush_until is not None
        return self._is_asked(now) or not self._announced

    def worker_started(self, now: float) -> None:
        """A child takes output from now on, from what has gathered while it started."""
        self._worker, self._heard_at, self._unanswered = True, now, 0
        self._patient_until = now + START_S

    def worker_lost(self, reason: str, now: float) -> None:
        """It is gone, with all that it had; `reason` "": it was not needed any more."""
        self._worker = False
        self._drop_output()
        if reason:
            self.worker_losses += 1
            self._capacity.failed(self.stream.name, reason)
            self._remarks.trouble("the worker that makes them was lost and is started again", reason)
        else:
            self._following = False
        self._flushed(now)
        self._give(now)

    def take_output(self) -> bytes:
        """What the child is to be sent now."""
        taken = b"".join([message for message, _ in self._output])
        self._output.clear()
        self._output_bytes = 0
        return taken

    def receive(self, messages: list[FromWorker], now: float) -> None:
        """What the child said."""
        self._heard_at, self._unanswered = now, 0
        for message in messages:
            match message:
                case Encoded():
                    self._splice.encoded(message)
                case Opened():
                    self._opened(message, now)
                case Damaged():
                    self.damaged = message.count
                case Flushed():
                    self._flushed(now)
                case Spent():
                    self.toll.spent(message)
                case Impossible() if message.number in self._begins:
                    self._give_up(message.reason)
        self._give(now)

    def tick(self, now: float) -> None:
        """Call every half second."""
        if self._flush_until is not None and now >= self._flush_until:
            self._flushed(now)
        if self._refused_until and now >= self._refused_until:
            self._admit(now)
        if self._shed and now >= self._shed_until:
            self._shed -= 1
            self._shed_until = now + self._shed_s
            self._begin_wanted = True
        if self._feeding and self._chosen() != self._engines:
            self._begin_wanted = True
        if self._rungs:
            self._tell_plan()
        if self._following and not self._is_asked(now):
            self._rest(now)

    def is_stalled(self, now: float) -> bool:
        """Has the child had much work for STALL_S and said nothing?"""
        return self._unanswered >= LATE_PLACES and now - self._heard_at >= STALL_S

    # --- the source's side

    def _news(self, now: float) -> None:
        stream, ring = self.stream, self.stream.ring
        if self._index < ring.first:
            self._index = ring.first
            self._drop_output()
            self._following = False
        for packet in ring.slice(self._index, ring.next):
            if self._section is None or packet.discontinuity != self._section.discontinuity:
                self._enter(stream.section_of(packet), now)
            self._take(packet, now)
        self._index = ring.next
        self._look_for_late(now)
        if stream.state in (StreamState.LINGERING, StreamState.ENDED):
            self._finish(now)
        elif self._flush_until is not None and stream.state is StreamState.LIVE:
            self._flush_until = None
        self._give(now)
        if self._output:
            self._on_work()

    def _enter(self, section: Section, now: float) -> None:
        """A section of the source begins."""
        self._section, self._segment = section, -1
        self._feeding = self._following = self._impossible = self._announced = False
        self._begin_wanted = True
        self._lead, self._source_video = None, None
        pictures = [track for track in section.tracks if track.kind is Kind.VIDEO]
        if len(pictures) == 1:
            lead = self._lead = pictures[0]
            self._source_video = SourceVideo(
                lead.codec, lead.width, lead.height, lead.declared_fps, lead.declared_bps
            )
            self._plan = plan(self._settings.policy, self._source_video)
        else:
            reason = "the publisher sends several pictures already" if pictures else "there is no picture"
            self._plan = Plan(reason=reason)
        self._admit(now)

    def _admit(self, now: float) -> None:
        """Reserve what the plan takes, or as many of its rungs as there is room for."""
        self._refused_until = 0.0
        rungs, source = self._plan.rungs, self._source_video
        self._refusal = self._plan.reason
        while rungs and source is not None:
            refusal = self._capacity.reserve(self.stream.name, cost_of(source, rungs))
            if not refusal:
                break
            self._refusal, rungs = refusal, rungs[1:]
        self._rungs = rungs
        if not rungs:
            self._capacity.release(self.stream.name)
            self._refused_until = now + REFUSED_S if self._plan.rungs else 0.0
            self._close_ladder("there are no renditions any more", now)
        elif self._writer is None and not self._stopped:
            self._begin_ladder(now)
        self._tell_plan()
        self._on_work()

    def _tell_plan(self) -> None:
        reason = self._refusal or (self._capacity.reason(self.stream.name) if self._rungs else "")
        self._remarks.plan(reason, some=bool(self._rungs))

    def _chosen(self) -> dict[int, Engine]:
        """Who is to make which rung from the next keyframe on."""
        section = self._section
        present = [track.id for track in self._splice.tracks(section.discontinuity)] if section else []
        chosen = {}
        for rung in self._rungs[self._shed :]:
            engine = self._capacity.engine(self.stream.name, rung.side)
            if engine is not None and (not present or rung.side in present):  # a section's tracks stay
                chosen[rung.side] = engine
        return chosen

    def _give_up(self, reason: str) -> None:
        """The worker cannot: other engines may, from the next keyframe on."""
        self._capacity.failed(self.stream.name, reason)
        if self._chosen() not in ({}, self._engines):
            self._drop_output()
            self._remarks.trouble("another encoder has to make them", reason)
            return
        self._impossible = True
        self._remarks.trouble("they cannot be made of this source", reason)

    def _take(self, packet: Packet, now: float) -> None:
        lead = self._lead
        if not self._rungs or lead is None or self._writer is None or self._impossible:
            return
        begins_segment, self._segment = packet.segment != self._segment, packet.segment
        leads = packet.track.id == lead.id
        usable = self._following or (begins_segment and packet.part == 0)
        if leads and packet.keyframe and usable and self._begin_wanted and self.wants_worker(now):
            self._begin(packet)
            self._following = self._following or self._feeding
        if not self._following:
            return
        if not leads:
            if packet.track.kind is Kind.AUDIO:
                self._splice.add_sound(packet)
        elif self._feeding:
            self._feed(packet, now)
        else:
            self._splice.add_lost(packet)

    def _begin(self, packet: Packet) -> None:
        """Tell the worker what to make from this keyframe on."""
        engines = self._chosen()
        rungs = tuple(rung for rung in self._rungs if rung.side in engines)
        source, settings = self._source_video, self._settings
        if not rungs or source is None:
            return
        self._begin_wanted, self._feeding, self._engines = False, True, engines
        orders = [RungOrder(rung.side, rung.bps, rung.fps, engines[rung.side]) for rung in rungs]
        begin = Begin(
            self._number, packet.track.codec, packet.track.config, packet.track.timescale, source.fps,
            orders, settings.threads, settings.preset, settings.latency,
        )  # fmt: skip
        self._begins[self._number] = (packet.discontinuity, [rung.side for rung in rungs])
        if len(self._begins) > BEGINS_MAX:
            del self._begins[next(iter(self._begins))]
        self._put(encode(begin), packet.dts_us)

    def _feed(self, packet: Packet, now: float) -> None:
        if not self._unanswered:
            self._heard_at = now  # it had nothing to say until here
        self._unanswered += 1
        number, self._number = self._number, self._number + 1
        self._splice.add_place(packet, number)
        coded = Coded(number, packet.dts, packet.pts, packet.keyframe, packet.data)
        self._put(encode(coded), packet.dts_us)
        full = self._output_bytes > OUTPUT_MAX_BYTES and len(self._output) > 2
        most_us = HELD_US if self._is_starting(now) else OUTPUT_MAX_US
        if full or packet.dts_us - self._output[0][1] > most_us:
            self._overrun(now)

    def _put(self, message: bytes, media_us: int) -> None:
        self._output.append((message, media_us))
        self._output_bytes += len(message)

    def _look_for_late(self, now: float) -> None:
        waiting = self._splice.waiting
        if waiting is None:
            return
        number, dts_us = waiting
        late_us = self.stream.newest_us - dts_us
        if late_us > LATE_US and self._number - number >= LATE_PLACES and not self._is_starting(now):
            self._overrun(now)
        elif late_us > HELD_US:
            self._drop_output()

    def _is_starting(self, now: float) -> bool:
        """Is there no worker yet, or one that has to catch up with what gathered?"""
        return not self._worker or now < self._patient_until

    def _drop_output(self) -> None:
        """All that waits is lost, the next keyframe begins again."""
        self._output.clear()
        self._output_bytes = 0
        self._begins.clear()
        self._splice.lose()
        self._feeding, self._begin_wanted = False, True
        if self._section is not None and not self._splice.tracks(self._section.discontinuity):
            self._following = False  # a section that was not opened has no gaps: it begins later

    def _overrun(self, now: float) -> None:
        """The worker is too slow, or not there yet."""
        self._drop_output()
        if self._is_starting(now):
            return
        self.overruns += 1
        self._remarks.trouble("they have gaps", "the machine was too slow for them")
        at = self._overran_at
        at.append(now)
        if len(at) == OVERRUNS_MAX and now - at[0] <= OVERRUN_WINDOW_S and self._shed < len(self._rungs):
            at.clear()
            given_up = self._rungs[self._shed].side
            self._shed += 1
            self._shed_until = now + self._shed_s
            self._shed_s = min(self._shed_s * 2, SHED_MAX_S)
            self._remarks.trouble(
                f"the one of {given_up}p is given up for now", "the machine is too slow for all of them"
            )

    # --- the ladder

    def _begin_ladder(self, now: float) -> None:
        name = ladder_of(self.stream.name)
        try:
            self._writer = self._open_ladder(name, _SOURCE, now, self._ladder_stopped)
        except Refused as refused:
            self._rungs = ()
            self._remarks.trouble("there are none", str(refused))
        self._ladder_at, self._written = now, None

    def _close_ladder(self, reason: str, now: float) -> None:
        writer, self._writer = self._writer, None
        self._following = self._feeding = False
        if writer is not None:
            writer.close(reason, now)

    def _ladder_stopped(self, reason: str) -> None:
        self._writer, self._stopped = None, True
        self._following = self._feeding = False
        self._remarks.trouble("there are none any more", reason)

    def _is_asked(self, now: float) -> bool:
        ladder = self.ladder
        if not self._settings.on_demand or ladder is None:
            return True
        return ladder.asked_at > self._ladder_at and now - ladder.asked_at < IDLE_S

    def _rest(self, now: float) -> None:
        """Nobody asked for a while: the ladder begins anew for the next who does."""
        self._drop_output()
        self._close_ladder("nobody watches it", now)
        self._begin_ladder(now)
        self._describe(now)

    def _opened(self, message: Opened, now: float) -> None:
        begun = self._begins.pop(message.number, None)
        section, lead = self._section, self._lead
        if begun is None or section is None or lead is None or section.discontinuity != begun[0]:
            return  # of a Begin that was given up since
        discontinuity, sides = begun
        made = opened_tracks(sides, message.rungs, self._rungs, lead.timescale)
        before = self._splice.tracks(discontinuity)
        if not made or (before and not same_tracks(made, before)):
            self._begin_anew(now)  # other encoders than before: nothing may come under the old inits
            return
        if not before:
            self._tracks = numbered(made, self._tracks, section)
            self._describe(now)
        self._announced = True
        ids = [track.id for track in self._tracks]
        self._splice.open(discontinuity, self._tracks, [ids.index(side) for side in sides], message.number)
        if not self._shed:
            self._remarks.well()

    def _describe(self, now: float) -> None:
        """Tell the ladder's readers of the tracks before there is a picture of them."""
        if self._writer is not None and self._section is not None and self._tracks:
            sound = [track for track in self._section.tracks if track.kind is Kind.AUDIO]
            tracks = (*self._tracks, *sound)
            self._writer.begin_section(msgspec.structs.replace(self._section, tracks=tracks), now)

    def _begin_anew(self, now: float) -> None:
        """The section has other renditions from here on: the ladder is another stream."""
        self._drop_output()
        self._splice = Splice()
        self._close_ladder("its renditions change", now)
        self._begin_ladder(now)

    def _give(self, now: float) -> None:
        """Write what is complete."""
        packets = self._splice.take()
        writer = self._writer
        if writer is None or not packets or not self._is_asked(now):
            return
        for packet in packets:
            if self._written is not None and not contiguous(self._written, packet):
                writer.skip(now)
            self._written = packet
            writer.write(packet)
            if packet.track.id in self._engines and packet.track.kind is Kind.VIDEO:
                self.toll.made(self._engines[packet.track.id].name, packet)
        writer.prove(self.stream.part_target_us, self.stream.target_duration_us, whole=False)
        writer.stream.state = StreamState.LIVE
        writer.flush(now)

    def _finish(self, now: float) -> None:
        """The publisher went: what is in the worker comes out, then the ladder lingers or ends, too."""
        ladder = self.ladder
        if ladder is None or self._flush_until is not None:
            return
        if self._worker and self._feeding:
            self._feeding, self._begin_wanted = False, True
            self._put(encode(Flush()), self.stream.newest_us)
            self._flush_until = now + FLUSH_S
        elif ladder.state is not self.stream.state:
            self._flush_until = now
            self._flushed(now)

    def _flushed(self, now: float) -> None:
        if self._flush_until is None:
            return
        self._flush_until = None
        self._splice.lose()
        self._give(now)
        self._following = False
        writer, state = self._writer, self.stream.state
        if writer is None:
            return
        if writer.stream.ring.next:
            writer.prove(self.stream.part_target_us, self.stream.target_duration_us, whole=True)
        if state is StreamState.ENDED:
            self._close_ladder("its source has ended", now)
        elif state is StreamState.LINGERING:
            writer.set_state(state, now)
        self._on_work()

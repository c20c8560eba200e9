"""One stream's pictures through gateways: what stands in a local worker's place. Pure.

Pictures of the source go in, as they come. Each of them comes out again in exactly one Released or
FellBack, in order: with its renditions, or to be made here. A Released's pictures name the place of
the source's picture that they take (media.transcode.livepeer.rendition), so a ladder's splice puts
them beside the source's sound.
"""

from collections.abc import Callable, Sequence
from random import Random

import msgspec

from media.track.model import Packet, Track
from media.transcode.livepeer.counts import Counts
from media.transcode.livepeer.gateways import Gateways
from media.transcode.livepeer.order import Order, Profile, manifest_id
from media.transcode.livepeer.rendition import Rendition, with_sets_in_band
from media.transcode.livepeer.schedule import IN_FLIGHT, Attempt, FellBack, Outcome, Released, Schedule
from media.transcode.livepeer.segmenter import TARGET_S, Segment, Segmenter, unfit_track

BUDGET_S = 6.0  # from a segment's end until its renditions are of no use: three segments of a playlist


class OffloadSettings(msgspec.Struct, frozen=True):
    """What is the same for every stream of a node."""

    target_s: float = TARGET_S
    budget_s: float = BUDGET_S
    in_flight: int = IN_FLIGHT
    hevc: bool = False  # the gateways take H.265


class Engine:
    """Give it one stream's pictures; a shell makes the requests of `attempts`.

    `on_work` is called when `attempts`, `outputs` or `deadline` may have changed.
    """

    def __init__(
        self,
        stream: str,
        gateways: Gateways,
        counts: Counts,
        random: Random,
        settings: OffloadSettings | None = None,
    ) -> None:
        self.on_work: Callable[[], None] = lambda: None
        self._stream, self._random = stream, random
        self._settings = settings or OffloadSettings()
        self._gateways = gateways
        self._schedule = Schedule(gateways, counts, random, in_flight=self._settings.in_flight)
        self._segmenter: Segmenter | None = None
        self._track: Track | None = None
        self._profiles: tuple[Profile, ...] = ()
        self._opened: dict[str, Rendition] = {}  # the last with new tracks, by profile

    @property
    def gateways(self) -> Gateways:
        return self._gateways

    @property
    def stopped(self) -> str:
        """Why no segment is sent any more; "": they are."""
        return self._schedule.stopped

    def refusal(self, track: Track) -> str:
        """Why renditions of this track cannot be had from gateways; "": they can, as far as is known."""
        if not len(self._gateways):
            return "no gateway is configured"
        return self.stopped or unfit_track(track, hevc=self._settings.hevc)

    def begin(self, track: Track, profiles: Sequence[Profile], now: float) -> None:
        """The next picture is a keyframe of this track, which gets these renditions; a new run begins."""
        self._cut(now)
        self._track, self._profiles = track, tuple(profiles)
        self._new_run()
        self.on_work()

    def picture(self, packet: Packet, now: float) -> None:
        """The next picture, in decoding order. What comes before the first keyframe is ignored."""
        segmenter = self._segmenter
        if segmenter is None:
            return
        done = segmenter.add(packet)
        if done is None:
            return
        self._schedule.add(done, now)
        if segmenter.run_is_old:
            self._new_run()
            assert self._segmenter is not None
            self._segmenter.add(packet)
        self.on_work()

    def flush(self, now: float) -> None:
        """The publisher went: send what there is."""
        self._cut(now)
        self.on_work()

    def stop(self, reason: str) -> None:
        """Send nothing any more; what is under way falls back."""
        self._schedule.stop(reason)
        self.on_work()

    def attempts(self, now: float) -> list[Attempt]:
        """Requests to make now."""
        return self._schedule.attempts(now)

    def ended(self, number: int, outcome: Outcome, now: float) -> None:
        """A request ended."""
        self._schedule.ended(number, outcome, now)
        self.on_work()

    def abandon(self, number: int) -> None:
        """A request was cancelled."""
        self._schedule.abandon(number)

    def deadline(self) -> float | None:
        """When `on_deadline` and `attempts` should be called again."""
        return self._schedule.deadline()

    def on_deadline(self, now: float) -> None:
        self._schedule.on_deadline(now)

    def outputs(self) -> list[Released | FellBack]:
        """What is decided, in order.

        A rendition whose configuration differs from that of its run's first one, but not its size or
        profile, has its parameter sets in band, so that readers of the first one's track can go on.
        """
        return [self._settled(out) if isinstance(out, Released) else out for out in self._schedule.outputs()]

    def _new_run(self) -> None:
        assert self._track is not None
        order = Order(
            manifest_id(self._stream, self._random), self._profiles, self._track.width, self._track.height,
            self._settings.budget_s, self._settings.hevc,
        )  # fmt: skip
        self._segmenter = Segmenter(order, target_s=self._settings.target_s)
        self._schedule.new_run()

    def _cut(self, now: float) -> None:
        segment: Segment | None = self._segmenter.flush() if self._segmenter is not None else None
        if segment is not None:
            self._schedule.add(segment, now)

    def _settled(self, out: Released) -> Released:
        renditions = []
        for rendition in out.renditions:
            held = self._opened.get(rendition.profile.name)
            if held is None or not _goes_on(held, rendition):
                # Pictures are not needed for the comparison, and would be held for as long.
                self._opened[rendition.profile.name] = msgspec.structs.replace(rendition, pictures=())
            elif held.config != rendition.config:
                rendition = msgspec.structs.replace(with_sets_in_band(rendition), config=held.config)
            renditions.append(rendition)
        return msgspec.structs.replace(out, renditions=tuple(renditions))


def _goes_on(held: Rendition, rendition: Rendition) -> bool:
    """Can a decoder that was opened for `held` take `rendition` when its parameter sets are in band?"""
    same_size = (held.width, held.height) == (rendition.width, rendition.height)
    return same_size and held.profile == rendition.profile and held.config[1] == rendition.config[1]

"""Which stream is let in, on which engines, and what gives way when there is too much. Pure.

A stream that was let in is never refused anything. When a device has more to do than it can, optional
renditions are dropped; when there are none left, new streams are sent away; when that does not
help, whole streams are to be moved, at the end of a segment. All of it waits for the step before to show.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from devices.capacity import Capacity
from devices.cost import Priced, decoding, rendering, total
from devices.health import Health
from devices.model import (
    CPU,
    Action,
    CostVector,
    Demand,
    Device,
    DropRendition,
    Kind,
    MoveStream,
    Plan,
    Refusal,
    Rendition,
    RestoreRendition,
    SendAway,
    Usage,
    Welcome,
    Work,
)
from devices.survey import Survey

OVERLOAD = 0.9  # share of a device in use, from where the next hard scene is one too many
EASY = 0.6  # below it there is room for what was given up
SUSTAINED_S = 3.0  # a keyframe of everybody at once is no overload
SETTLE_S = 10.0  # until what was done shows in measurements
MOVE_S = 20.0  # two or three segments, within which a stream has moved if it can
ASK_AGAIN_S = 120.0  # the same stream: another node may have become free
DROPS_MAX = 16  # in one step: more at once would be trusting the model too far
RESTORE_S = 30.0  # of ease, before anything is taken back: longer than what made it hard


@dataclass(slots=True)
class _Stream:
    """One that was let in: what it wants, who does it, what was given up."""

    work: Work
    decoder: Priced
    encoders: dict[str, Priced] = field(default_factory=dict)
    dropped: list[str] = field(default_factory=list)
    asked_to_move_at: float = float("-inf")


@dataclass(slots=True)
class _Pressure:
    """Since when a device has too much to do, or little; what was done about it."""

    hard_since: float | None = None
    easy_since: float | None = None
    acted_at: float = float("-inf")
    is_away: bool = False

    def note(self, now: float, *, hard: bool, easy: bool) -> None:
        self.hard_since = (now if self.hard_since is None else self.hard_since) if hard else None
        self.easy_since = (now if self.easy_since is None else self.easy_since) if easy else None

    def is_overloaded(self, now: float) -> bool:
        return self.hard_since is not None and now - self.hard_since >= SUSTAINED_S

    def is_at_ease(self, now: float) -> bool:
        return self.easy_since is not None and now - self.easy_since >= RESTORE_S


class Admission:
    """The policy over the devices of a survey. See `devices.model.TakesStreams`."""

    def __init__(self, survey: Survey, devices: list[Device] | None = None) -> None:
        """`devices` in place of those of the survey: with limits of bandwidth, for instance."""
        self._survey = survey
        self.capacity = Capacity(survey.devices() if devices is None else devices)
        self._health = {device.id: Health() for device in self.capacity.devices}
        self._pressure = {device: _Pressure() for device in self._health}
        self._streams: dict[str, _Stream] = {}

    def admit(self, stream: str, work: Work, now: float) -> Plan | Refusal:
        """Reserve for a new stream, or say why not. The plan that it has, for one that was let in before.

        Optional renditions that find no room are left out, and made when there is room.
        """
        if stream not in self._streams:
            chosen = self._chosen(work, now)
            if isinstance(chosen, Refusal):
                return chosen
            refusal = self.capacity.reserve(stream, self._demand(chosen), now)
            if refusal is not None:
                return refusal
            self._streams[stream] = chosen
        one = self._streams[stream]
        encoders = {name: encoder.choice for name, encoder in one.encoders.items()}
        return Plan(one.decoder.choice, encoders, self.capacity.predicted(stream))

    def measured(self, stream: str, usage: Usage, now: float) -> None:
        """What a stream really took; ignored for one that has ended."""
        if stream not in self._streams:
            return
        self.capacity.measured(stream, usage.demand, now)
        for device in self.capacity.predicted(stream):
            for factor in usage.realtime_factors:
                self._health[device].factor(factor, now)
            for wait in usage.queue_waits:
                self._health[device].wait(wait, now)

    def ended(self, stream: str, now: float) -> None:
        """Give back what a stream had; nothing happens for one that has nothing."""
        self._streams.pop(stream, None)
        self.capacity.release(stream)

    def failed(self, device: str, reason: str, now: float) -> None:
        """A device gave errors: nothing new is put on it for a while."""
        if device in self._health:
            self._health[device].failed(reason, now)

    def free(self, work: Work, now: float) -> int:
        """How many more streams of such work fit now, each on the one encoder that takes the most of them."""
        best = 0
        for encoder in self._survey.usable(Kind.ENCODER, work.renditions[0].codec):
            for decoder in self._survey.usable(Kind.DECODER, work.source.codec):
                one = _Stream(work, decoder, {rendition.name: encoder for rendition in work.renditions})
                demand = self._demand(one)
                if not any(self._trouble(device, now) for device in demand):
                    best = max(best, self.capacity.times(demand, now))
        return best

    def decide(self, now: float) -> list[Action]:
        """What to do about load: a step for each device, when the one before has settled."""
        actions: list[Action] = []
        for device, pressure in self._pressure.items():
            load = self.capacity.load(device, now)
            hard = load > OVERLOAD or self._health[device].is_behind(now)
            pressure.note(now, hard=hard, easy=not hard and load < EASY)
            if now - pressure.acted_at < SETTLE_S:
                continue
            step: list[Action] = []
            if pressure.is_overloaded(now):
                step = self._relief(device, pressure, now)
            elif pressure.is_at_ease(now):
                step = self._return(device, pressure, now)
            if step:
                pressure.acted_at = now
                actions += step
        return actions

    def _chosen(self, work: Work, now: float) -> _Stream | Refusal:
        """An engine for each job of a stream, hardware before software."""
        decoder = self._pick(Kind.DECODER, work.source.codec, lambda one: decoding(work.source, one), {}, now)
        if isinstance(decoder, Refusal):
            return decoder
        found = _Stream(work, decoder)
        for rendition in sorted(work.renditions, key=lambda one: one.optional):
            price = self._price(work, rendition)
            encoder = self._pick(Kind.ENCODER, rendition.codec, price, self._demand(found), now)
            if isinstance(encoder, Priced):
                found.encoders[rendition.name] = encoder
            elif rendition.optional:
                found.dropped.append(rendition.name)
            else:
                return encoder
        return found

    def _pick(
        self, kind: Kind, codec: str, price: Callable[[Priced], Demand], beside: Demand, now: float
    ) -> Priced | Refusal:
        """The first engine that has room for it beside what the stream takes already."""
        engines = self._survey.usable(kind, codec)
        engines.sort(key=lambda one: (one.device == CPU, self.capacity.load(one.device, now)))
        refusal = Refusal(f"no {kind} for {codec} works here")
        for engine in engines:
            demand = price(engine)
            troubles = {device: self._trouble(device, now) for device in demand}
            device = next((device for device, trouble in troubles.items() if trouble), "")
            misfit = self.capacity.misfit(total([beside, demand]), now)
            if not device and misfit is None:
                return engine
            refusal = Refusal(f"{device}: {troubles[device]}", device) if device else misfit or refusal
        return refusal

    def _trouble(self, device: str, now: float) -> str:
        """Why nothing new goes on a device; "" when it may."""
        if device not in self._health:
            return "there is no such device"
        if self._pressure[device].is_away:
            return "it has more to do than it can"
        return self._health[device].trouble(now)

    def _price(self, work: Work, rendition: Rendition) -> Callable[[Priced], Mapping[str, CostVector]]:
        return lambda encoder: rendering(work.source, rendition, encoder, self._survey.scaling)

    def _demand(self, one: _Stream) -> dict[str, CostVector]:
        parts: list[Demand] = [decoding(one.work.source, one.decoder)]
        for rendition in one.work.renditions:
            if rendition.name in one.encoders:
                parts.append(self._price(one.work, rendition)(one.encoders[rendition.name]))
        return total(parts)

    def _relief(self, device: str, pressure: _Pressure, now: float) -> list[Action]:
        dropped = self._drop(device, now)
        if dropped:
            return dropped
        if not pressure.is_away:
            reason = self._health[device].trouble(now) or "it has more to do than it can"
            pressure.is_away = True
            return [SendAway(device, reason)]
        stream = self._best_to_move(device, now)
        if stream is None:
            return []
        self._streams[stream].asked_to_move_at = now
        return [MoveStream(stream, f"{device} has more to do than it can")]

    def _drop(self, device: str, now: float) -> list[Action]:
        """Optional renditions, as many as should be enough, the costliest first; at least one if there is."""
        dropped: list[Action] = []
        while len(dropped) < DROPS_MAX and (not dropped or self.capacity.load(device, now) > OVERLOAD):
            costly = self._costliest_optional(device)
            if costly is None:
                break
            stream, name = costly
            one = self._streams[stream]
            del one.encoders[name]
            one.dropped.append(name)
            self.capacity.change(stream, self._demand(one))
            dropped.append(DropRendition(stream, name))
        return dropped

    def _costliest_optional(self, device: str) -> tuple[str, str] | None:
        """Stream and rendition that give back the most; of equals, of the newest stream."""
        best, most = None, 0.0
        for name, one in self._streams.items():
            for rendition in one.work.renditions:
                if not rendition.optional or rendition.name not in one.encoders:
                    continue
                parts = self._price(one.work, rendition)(one.encoders[rendition.name])
                busy = parts[device].busy if device in parts else 0.0
                if busy > 0 and busy >= most:
                    best, most = (name, rendition.name), busy
        return best

    def _best_to_move(self, device: str, now: float) -> str | None:
        """The smallest that is enough by itself, else the largest. None while one is on its way.

        One that is still here after MOVE_S found no other place: another is asked.
        """
        busy = {name: self.capacity.held(name, device, now).busy for name in self._streams}
        asked = {name: now - one.asked_to_move_at for name, one in self._streams.items() if busy[name] > 0}
        using = [name for name, ago in asked.items() if ago >= ASK_AGAIN_S]
        if not using or min(asked.values()) < MOVE_S:
            return None
        units = next(one.cores or 1.0 for one in self.capacity.devices if one.id == device)
        excess = sum(busy.values()) - OVERLOAD * units
        enough = [name for name in using if busy[name] >= excess > 0]
        return min(enough, key=lambda name: busy[name]) if enough else max(using, key=lambda name: busy[name])

    def _return(self, device: str, pressure: _Pressure, now: float) -> list[Action]:
        """Take new streams again, then make again what was dropped, one by one."""
        if pressure.is_away:
            pressure.is_away = False
            return [Welcome(device)]
        for name, one in self._streams.items():
            for rendition in one.work.renditions:
                if rendition.name not in one.dropped or now - one.asked_to_move_at < MOVE_S:
                    continue
                price = self._price(one.work, rendition)
                encoder = self._pick(Kind.ENCODER, rendition.codec, price, {}, now)
                if isinstance(encoder, Priced) and device in price(encoder):
                    one.dropped.remove(rendition.name)
                    one.encoders[rendition.name] = encoder
                    self.capacity.change(name, self._demand(one))
                    return [RestoreRendition(name, rendition.name)]
        return []

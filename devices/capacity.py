"""How much of each device is taken: what was reserved, and what was measured in its place. Pure."""

from collections.abc import Iterable, Iterator

import msgspec

from devices.errors import StateError
from devices.model import HEADROOM, CostVector, Demand, Device, Refusal

MEASURED_AFTER_S = 10.0  # five groups of pictures: before that a stream is all keyframe and start
FRESH_S = 10.0  # reports come every few seconds; without any for so long they begin to age
HALF_LIFE_S = 30.0  # of a measurement that nothing confirms: back to the prediction
SMOOTHING_S = 5.0  # of measurements, as one segment may hold two keyframes and the next none
STREAMS_MAX = 1024  # more transcodes than any one host can do
NOTHING = CostVector()


class Share(msgspec.Struct, frozen=True):
    """A part of a device that is taken: 1 is all there is. Up to `limit` may be reserved."""

    what: str
    share: float
    limit: float = HEADROOM


def shares(device: Device, cost: CostVector) -> Iterator[Share]:
    """What a cost is of a device, kind by kind. Of kinds without a known limit there are none."""
    if device.cores is not None:
        yield Share("CPU", cost.busy / device.cores)
    else:
        yield Share("decoder", cost.decode)
        yield Share("scaler", cost.scale)
        yield Share("encoder", cost.encode)
    if device.memory_bytes:
        yield Share("memory", cost.memory_bytes / device.memory_bytes)
    if device.ingress_bps:
        yield Share("downlink", cost.ingress_bps / device.ingress_bps)
    if device.egress_bps:
        yield Share("uplink", cost.egress_bps / device.egress_bps)
    if device.sessions is not None:  # counted, not guessed: every one of them can be had
        yield Share("encoder sessions", cost.sessions / device.sessions if device.sessions else 2.0, 1.0)


class _Reservation:
    """What one stream was promised, and what it takes."""

    def __init__(self, demand: Demand, now: float) -> None:
        self.predicted = dict(demand)
        self.since = now
        self._measured: dict[str, CostVector] | None = None
        self._measured_at = now

    def measure(self, demand: Demand, now: float) -> None:
        if self._measured is None:
            self._measured = dict(demand)
        else:
            weight = min(1.0, max(0.0, now - self._measured_at) / SMOOTHING_S)
            self._measured = {
                device: _mixed(self._measured.get(device, NOTHING), demand.get(device, NOTHING), weight)
                for device in {**self._measured, **demand}
            }
        self._measured_at = now

    def change(self, demand: Demand) -> None:
        """Another set of renditions: what was measured changes by as much as the prediction does."""
        if self._measured is not None:
            self._measured = {
                device: _scaled(cost, self.predicted.get(device, NOTHING), demand.get(device, NOTHING))
                for device, cost in self._measured.items()
            }
        self.predicted = dict(demand)

    def held(self, device: str, now: float) -> CostVector:
        """What counts for this stream now."""
        predicted = self.predicted.get(device, NOTHING)
        if self._measured is None:
            return predicted
        measured = self._measured.get(device, NOTHING)
        if now - self.since < MEASURED_AFTER_S:
            return _larger(predicted, measured)
        age = max(0.0, now - self._measured_at - FRESH_S)
        return _with_counts(_mixed(predicted, measured, 0.5 ** (age / HALF_LIFE_S)), predicted)


class Capacity:
    """The devices of a host and what is taken of them. A stream that was let in is never thrown out here."""

    def __init__(self, devices: Iterable[Device]) -> None:
        self._devices = {device.id: device for device in devices}
        self._held: dict[str, _Reservation] = {}

    @property
    def devices(self) -> list[Device]:
        """All of them."""
        return list(self._devices.values())

    @property
    def streams(self) -> list[str]:
        """Those that hold something, oldest first."""
        return list(self._held)

    def reserve(self, stream: str, demand: Demand, now: float) -> Refusal | None:
        """Take it, or say what there is too little of. Raises StateError for a stream that has something."""
        if stream in self._held:
            raise StateError(f"{stream} has a reservation")
        if len(self._held) >= STREAMS_MAX:
            return Refusal(f"{STREAMS_MAX} streams are as many as one node transcodes")
        refusal = self.misfit(demand, now)
        if refusal is None:
            self._held[stream] = _Reservation(demand, now)
        return refusal

    def misfit(self, demand: Demand, now: float) -> Refusal | None:
        """What there is too little of for this beside all others; None when it fits."""
        for name, cost in demand.items():
            device = self._devices.get(name)
            if device is None:
                return Refusal(f"there is no device {name}", name)
            for before, after in zip(
                shares(device, self.taken(name, now)),
                shares(device, self.taken(name, now) + cost),
                strict=True,
            ):
                if after.share > after.limit and after.share > before.share:
                    return Refusal(
                        f"{after.what} of {device.name or name}: {before.share:.0%} is taken, this stream "
                        f"needs {after.share - before.share:.0%}, and {after.limit:.0%} is the limit",
                        name,
                    )
        return None

    def change(self, stream: str, demand: Demand) -> None:
        """A stream makes more or fewer renditions from now on; whether it fits is for the caller to ask."""
        self._of(stream).change(demand)

    def measured(self, stream: str, demand: Demand, now: float) -> None:
        """What a stream really takes. Ignored for one that holds nothing: it has just ended."""
        if stream in self._held:
            self._held[stream].measure(demand, now)

    def release(self, stream: str) -> None:
        """Give everything back; nothing happens for a stream that holds nothing."""
        self._held.pop(stream, None)

    def predicted(self, stream: str) -> dict[str, CostVector]:
        """What was reserved for it."""
        return dict(self._of(stream).predicted)

    def held(self, stream: str, device: str, now: float) -> CostVector:
        """What counts for one stream on a device."""
        return self._of(stream).held(device, now)

    def taken(self, device: str, now: float) -> CostVector:
        """What counts for all streams on a device."""
        found = NOTHING
        for reservation in self._held.values():
            found += reservation.held(device, now)
        return found

    def load(self, device: str, now: float) -> float:
        """The largest share of it that is taken; sessions aside, of which all may be."""
        taken = self.taken(device, now)
        return max((one.share for one in shares(self._devices[device], taken) if one.limit < 1), default=0.0)

    def times(self, demand: Demand, now: float) -> int:
        """How many more streams that take so much would fit now."""
        least = float(STREAMS_MAX)
        for name, cost in demand.items():
            device = self._devices.get(name)
            if device is None:
                return 0
            taken = list(shares(device, self.taken(name, now)))
            for one, more in zip(taken, shares(device, cost), strict=True):
                if more.share > 0:
                    least = min(least, (one.limit - one.share) / more.share)
        return max(0, int(least))

    def _of(self, stream: str) -> _Reservation:
        if stream not in self._held:
            raise StateError(f"{stream} has no reservation")
        return self._held[stream]


def _mixed(first: CostVector, second: CostVector, weight: float) -> CostVector:
    def mix(a: float, b: float) -> float:
        return a + (b - a) * weight

    return CostVector(
        mix(first.decode, second.decode),
        mix(first.scale, second.scale),
        mix(first.encode, second.encode),
        mix(first.memory_bytes, second.memory_bytes),
        max(first.sessions, second.sessions),
        mix(first.ingress_bps, second.ingress_bps),
        mix(first.egress_bps, second.egress_bps),
    )


def _larger(first: CostVector, second: CostVector) -> CostVector:
    return CostVector(
        max(first.decode, second.decode),
        max(first.scale, second.scale),
        max(first.encode, second.encode),
        max(first.memory_bytes, second.memory_bytes),
        max(first.sessions, second.sessions),
        max(first.ingress_bps, second.ingress_bps),
        max(first.egress_bps, second.egress_bps),
    )


def _with_counts(cost: CostVector, predicted: CostVector) -> CostVector:
    """Memory and sessions are what was reserved: nobody measures them while a stream runs."""
    return msgspec.structs.replace(cost, memory_bytes=predicted.memory_bytes, sessions=predicted.sessions)


def _scaled(cost: CostVector, before: CostVector, after: CostVector) -> CostVector:
    def scale(value: float, old: float, new: float) -> float:
        return value * new / old if old > 0 else new

    return CostVector(
        scale(cost.decode, before.decode, after.decode),
        scale(cost.scale, before.scale, after.scale),
        scale(cost.encode, before.encode, after.encode),
        after.memory_bytes,
        after.sessions,
        scale(cost.ingress_bps, before.ingress_bps, after.ingress_bps),
        scale(cost.egress_bps, before.egress_bps, after.egress_bps),
    )

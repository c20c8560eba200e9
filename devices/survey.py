"""What was found out about this host: which engines work, what they cost, how much there is of what."""

from collections.abc import Sequence
from typing import Any

import msgspec

from devices.cost import CodecCost, Priced, Rate, decoding, demand_of
from devices.engines import Target
from devices.errors import WireError
from devices.gpu import Gpu
from devices.model import CPU, HEADROOM, Choice, Device, Kind, Rendition, Source, Work

METHOD = 1  # of measuring: what another method found is measured again
SURVEY_MAX_BYTES = 1_000_000  # of the cache: 60 engines take 40 kB
FULL_HD = (1920, 1080)
SOURCE = Source("h264", 1920, 1080, 30.0, 6_000_000)
RUNGS = ((1080, 1920, 5_000_000), (720, 1280, 3_000_000), (480, 854, 1_400_000), (360, 640, 800_000))


def ladder(codec: str = "h264") -> Work:
    """The unit that capacity is told in: 1080p30 of H.264 at 6 Mb/s to 1080p30, 720p30, 480p30 and 360p30."""
    return Work(
        SOURCE,
        tuple(Rendition(f"{height}p", codec, width, height, 30.0, bps) for height, width, bps in RUNGS),
    )


class Host(msgspec.Struct, frozen=True):
    """What a survey is valid for. Anything here that changes means: measure again."""

    cpu: str
    cores: float
    memory_bytes: int
    gpus: tuple[Gpu, ...]
    pyav: str
    ffmpeg: str
    method: int = METHOD


class Finding(msgspec.Struct, frozen=True):
    """How an engine did on a device. Without a cost it was not measured, without `usable` it may not be used.

    `sessions` encoders were open at a time before the driver said no; None: it never did, or software.
    """

    name: str
    kind: Kind
    codec: str
    choice: Choice
    usable: bool
    reason: str = ""
    psnr_db: float | None = None
    cost: CodecCost | None = None
    sessions: int | None = None

    @property
    def device(self) -> str:
        """What it runs on."""
        return self.choice.device


class Survey(msgspec.Struct, frozen=True):
    """Everything that was found out."""

    host: Host
    findings: tuple[Finding, ...]
    scaling: Rate
    contention: float = 1.0

    @property
    def cores(self) -> float:
        """Cores' worth of work that can be done at a time: two threads of one core are not two cores."""
        return self.host.cores / self.contention

    def usable(self, kind: Kind, codec: str) -> list[Priced]:
        """Engines that were seen to work and were measured, in the order of the table of engines."""
        return [
            Priced(finding.choice, finding.cost)
            for finding in self.findings
            if finding.usable and finding.cost and finding.kind is kind and finding.codec == codec
        ]

    def devices(self) -> list[Device]:
        """What there is to be reserved: the CPU first."""
        names = {gpu.id: gpu for gpu in self.host.gpus}
        found = {CPU: Device(CPU, self.host.cpu, self.cores, float(self.host.memory_bytes))}
        for finding in self.findings:
            if not finding.usable or finding.device == CPU:
                continue
            gpu = names.get(finding.device)
            known = found.get(finding.device) or Device(finding.device, gpu.name if gpu else finding.device)
            caps = [cap for cap in (known.sessions, finding.sessions) if cap is not None]
            found[finding.device] = msgspec.structs.replace(
                known,
                sessions=min(caps, default=None),
                memory_bytes=float(gpu.memory_bytes) if gpu and gpu.memory_bytes else None,
            )
        return list(found.values())

    def pixels_per_s(self, finding: Finding) -> float | None:
        """Pixels per second of 1080p30 at the ladder's bit rate that the whole device can do."""
        if not finding.usable or finding.cost is None:
            return None
        pixels = FULL_HD[0] * FULL_HD[1]
        bps = SOURCE.bitrate_bps if finding.kind is Kind.DECODER else RUNGS[0][2]
        seconds = finding.cost.device.seconds(pixels, bps / SOURCE.fps)
        units = self.cores if finding.device == CPU else 1.0
        return units * pixels / seconds if seconds > 0 else None

    def ladders(self, finding: Finding) -> float | None:
        """How many ladders at a time fit with this encoder; for a decoder, how many 1080p30 it decodes.

        The source is decoded by the first software decoder of H.264, and HEADROOM is kept.
        """
        if not finding.usable or finding.cost is None:
            return None
        priced = Priced(finding.choice, finding.cost)
        if finding.kind is Kind.DECODER:
            source = msgspec.structs.replace(SOURCE, codec=finding.codec)
            return _times(self.devices(), decoding(source, priced))
        decoders = [one for one in self.usable(Kind.DECODER, SOURCE.codec) if one.device == CPU]
        if not decoders:
            return None
        work = ladder(finding.codec)
        encoders = {rendition.name: priced for rendition in work.renditions}
        return _times(self.devices(), demand_of(work, decoders[0], encoders, self.scaling))


def _times(devices: Sequence[Device], demand: dict[str, Any]) -> float:
    found = float("inf")
    for device in devices:
        cost = demand.get(device.id)
        if cost is None:
            continue
        if device.cores is not None:
            found = min(found, HEADROOM * device.cores / cost.busy if cost.busy > 0 else found)
        else:
            found = min(found, *(HEADROOM / part for part in (cost.decode, cost.encode) if part > 0), found)
        if device.memory_bytes and cost.memory_bytes:
            found = min(found, HEADROOM * device.memory_bytes / cost.memory_bytes)
        if device.sessions is not None and cost.sessions:
            found = min(found, device.sessions / cost.sessions)
    return found


def refusal(target: Target, reason: str) -> Finding:
    """An engine that did not work."""
    engine = target.engine
    return Finding(engine.name, engine.kind, engine.codec, target.choice, False, reason)


def view(survey: Survey) -> dict[str, Any]:
    """As `fwnode devices --json` and the control API say it."""
    return {
        "cpu": survey.host.cpu,
        "cores": round(survey.cores, 2),
        "memory_bytes": survey.host.memory_bytes,
        "pyav": survey.host.pyav,
        "ffmpeg": survey.host.ffmpeg,
        "devices": [msgspec.to_builtins(device) for device in survey.devices()],
        "engines": [
            {
                "name": finding.name,
                "kind": str(finding.kind),
                "codec": finding.codec,
                "device": finding.device,
                "usable": finding.usable,
                "pixels_per_s": _rounded(survey.pixels_per_s(finding), 0),
                "ladders_1080p30": _rounded(survey.ladders(finding), 2),
                "sessions": finding.sessions,
                "psnr_db": _rounded(finding.psnr_db, 1),
                "reason": finding.reason,
            }
            for finding in survey.findings
        ],
    }


def _rounded(value: float | None, digits: int) -> float | int | None:
    if value is None or value == float("inf"):
        return None
    return round(value, digits) if digits else round(value)


def encode_survey(survey: Survey) -> bytes:
    """For the cache."""
    return msgspec.json.format(msgspec.json.encode(survey), indent=1)


def decode_survey_untrusted(data: bytes) -> Survey:
    """From the cache, where it may be damaged or of another version. Raises WireError."""
    if len(data) > SURVEY_MAX_BYTES:
        raise WireError(f"{len(data)} bytes are no survey")
    try:
        survey = msgspec.json.decode(data, type=Survey)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise WireError(f"not a survey: {error}") from None
    costs = [finding.cost for finding in survey.findings if finding.cost]
    rates = [survey.scaling, *(rate for cost in costs for rate in (cost.device, cost.cpu))]
    numbers = [number for rate in rates for number in (rate.fixed_s, rate.pixel_s, rate.extra_s)]
    if survey.contention < 1 or survey.host.cores <= 0 or not all(0 <= number < 60 for number in numbers):
        raise WireError("not a survey: it has numbers that cannot be")
    return survey

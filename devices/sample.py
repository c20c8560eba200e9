"""Ten streams that differ in size, codec, bit rate and picture: is the model of costs true here?

The pictures are drawn by libavfilter, as no film is small enough to carry around. None of them is the one
that the model was fitted with.
"""

from collections.abc import Sequence

import msgspec

from devices.cost import Priced, demand_of
from devices.errors import StateError
from devices.model import CPU, Kind, Plan, Rendition, Source, Work
from devices.survey import Survey

MEDIA_S = 8.0  # of each stream: four groups of pictures, or two halves of two
R1080 = ("1080p", 1920, 1080, 5_000_000)
R720 = ("720p", 1280, 720, 3_000_000)
R480 = ("480p", 854, 480, 1_400_000)
R360 = ("360p", 640, 360, 800_000)
TEST_CARD = "testsrc2=size={width}x{height}:rate=30"
GRAIN = "testsrc2=size={width}x{height}:rate=30,noise=alls=8:allf=t"
FRACTAL = "mandelbrot=size={width}x{height}:rate=30"
GRAINY_FRACTAL = "mandelbrot=size={width}x{height}:rate=30,noise=alls=5:allf=t"
RINGS = "zoneplate=size={width}x{height}:rate=30:kt2=1:kx=5:ky=3"
CLOUDS = "gradients=size={width}x{height}:rate=30:speed=0.05,noise=alls=3:allf=t"
PATTERN = "sierpinski=size={width}x{height}:rate=30"
Rung = tuple[str, int, int, int]


class Sample(msgspec.Struct, frozen=True):
    """A stream to be transcoded, and what is on it."""

    name: str
    picture: str
    work: Work


class Compared(msgspec.Struct, frozen=True):
    """CPU seconds per second of a stream, as the model says and as it was.

    `measured` is the whole stream; `early` and `later` are its halves: what is reserved after a while
    is what was measured until then.
    """

    name: str
    predicted: float
    measured: float
    early: float
    later: float

    @property
    def error(self) -> float:
        """Of the prediction, relative to what was measured."""
        return self.predicted / self.measured - 1 if self.measured else 0.0

    @property
    def later_error(self) -> float:
        """Of the first half as a prediction of the second."""
        return self.early / self.later - 1 if self.later else 0.0


def _sample(
    name: str, picture: str, codec: str, size: tuple[int, int], bps: int, to: str, rungs: Sequence[Rung]
) -> Sample:
    renditions = tuple(Rendition(name, to, width, height, 30.0, rate) for name, width, height, rate in rungs)
    return Sample(name, picture, Work(Source(codec, *size, 30.0, bps), renditions))


FULL, HD, SD = (1920, 1080), (1280, 720), (854, 480)
SAMPLES = (
    _sample("fractal, full ladder", FRACTAL, "h264", FULL, 6_000_000, "h264", (R1080, R720, R480, R360)),
    _sample("test card, full ladder", TEST_CARD, "h264", FULL, 8_000_000, "h264", (R1080, R720, R480, R360)),
    _sample("grain", GRAIN, "h264", FULL, 6_000_000, "h264", (R720, R480, R360)),
    _sample("rings", RINGS, "h264", HD, 4_000_000, "h264", (R720, R480)),
    _sample("clouds", CLOUDS, "h264", HD, 3_000_000, "h264", (R480, R360)),
    _sample("grainy fractal from HEVC", GRAINY_FRACTAL, "hevc", FULL, 4_000_000, "h264", (R720, R360)),
    _sample("small test card", TEST_CARD, "h264", SD, 2_000_000, "h264", (R360,)),
    _sample("pattern from AV1", PATTERN, "av1", HD, 2_000_000, "h264", (R720, R480, R360)),
    _sample("fractal to HEVC", FRACTAL, "h264", HD, 4_000_000, "hevc", (R720, R360)),
    _sample("test card to VP9", TEST_CARD, "h264", HD, 3_000_000, "vp9", (R480, R360)),
)


def plan_of(work: Work, survey: Survey) -> Plan:
    """A plan in software, whatever else there is. Raises StateError where a codec has no software here."""

    def software(kind: Kind, codec: str) -> Priced:
        for priced in survey.usable(kind, codec):
            if priced.device == CPU:
                return priced
        raise StateError(f"no {kind} of {codec} works here")

    decoder = software(Kind.DECODER, work.source.codec)
    encoders = {one.name: software(Kind.ENCODER, one.codec) for one in work.renditions}
    return Plan(
        decoder.choice,
        {name: priced.choice for name, priced in encoders.items()},
        demand_of(work, decoder, encoders, survey.scaling),
    )


def summary(compared: Sequence[Compared]) -> dict[str, float]:
    """Errors of all streams together, the mean and the worst of one; for the model and for measuring."""
    predicted, measured, early, later = (
        sum(values)
        for values in zip(
            *((one.predicted, one.measured, one.early, one.later) for one in compared), strict=True
        )
    )
    errors = [abs(one.error) for one in compared]
    return {
        "predicted": predicted,
        "measured": measured,
        "total_error": predicted / measured - 1,
        "mean_error": sum(errors) / len(errors),
        "worst_error": max(errors),
        "later_total_error": early / later - 1,
        "later_worst_error": max(abs(one.later_error) for one in compared),
    }

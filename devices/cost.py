"""What work costs: a model with a term for each picture, each pixel and each bit, fitted to measurements.

A picture costs what its size says, and more when there is more to be coded in it; the bit rate says how
much that is. Pixels alone are wrong by a factor of two between a talking head and a game.
"""

import itertools
import math
from collections.abc import Iterable, Sequence

import msgspec

from devices.model import CPU, Choice, CostVector, Demand, Rendition, Source, Work
from devices.trial.wire import Point, ScalePoint

MEMORY_BYTES_PER_PIXEL_MIN = 24.0  # 16 pictures of 4:2:0 in flight; what is measured may be cached memory
SINGULAR = 1e-12  # relative to the largest pivot: points that lie on a line


class Rate(msgspec.Struct, frozen=True):
    """Seconds for a picture: `fixed_s + pixel_s * pixels + extra_s * extra`.

    `extra` is bits for codecs; for scaling, pixels of the result beside those of the source.
    """

    fixed_s: float = 0.0
    pixel_s: float = 0.0
    extra_s: float = 0.0

    def seconds(self, pixels: float, extra: float) -> float:
        """Busy seconds for one picture."""
        return self.fixed_s + self.pixel_s * pixels + self.extra_s * extra


class CodecCost(msgspec.Struct, frozen=True):
    """What an engine takes of its device and of the CPU, and memory. Both rates are one for software."""

    device: Rate
    cpu: Rate
    memory_bytes_per_pixel: float = MEMORY_BYTES_PER_PIXEL_MIN


class Priced(msgspec.Struct, frozen=True):
    """An engine on a device with its price."""

    choice: Choice
    cost: CodecCost

    @property
    def device(self) -> str:
        """What it runs on."""
        return self.choice.device


def fit_codec(points: Sequence[Point]) -> CodecCost:
    """The cost of coding by what was measured. Without points it is nothing."""
    rows = [(1.0, float(point.width * point.height), point.bits) for point in points]
    device = fit(rows, [point.device_s for point in points])
    cpu = fit(rows, [point.cpu_s for point in points])
    memory = max((point.memory_bytes / (point.width * point.height) for point in points), default=0.0)
    return CodecCost(device, cpu, max(memory, MEMORY_BYTES_PER_PIXEL_MIN))


def fit_scaling(points: Sequence[ScalePoint]) -> Rate:
    """The cost of scaling on the CPU."""
    rows = [
        (1.0, float(point.from_width * point.from_height), float(point.to_width * point.to_height))
        for point in points
    ]
    return fit(rows, [point.cpu_s for point in points])


def fit(rows: Sequence[tuple[float, float, float]], seconds: Sequence[float]) -> Rate:
    """Least squares of the relative error, no term below zero.

    With three terms every choice of them can be tried: the best of those that come out without a
    negative one is the solution (Lawson and Hanson, Solving Least Squares Problems, chapter 23).
    """
    usable = [(row, value) for row, value in zip(rows, seconds, strict=True) if value > 0]
    best, best_error = Rate(), float("inf")
    for count in (1, 2, 3):
        for terms in itertools.combinations(range(3), count):
            found = _solved([([row[t] / value for t in terms], 1.0) for row, value in usable])
            if found is None or not all(0 <= one < float("inf") for one in found):
                continue
            full = [0.0, 0.0, 0.0]
            for term, coefficient in zip(terms, found, strict=True):
                full[term] = coefficient
            rate = Rate(*full)
            error = math.hypot(*(rate.seconds(*row[1:]) / value - 1 for row, value in usable))
            if error < best_error:
                best, best_error = rate, error
    return best


def _solved(equations: Sequence[tuple[list[float], float]]) -> list[float] | None:
    """Least squares by the normal equations, columns brought to one size; None when it has no one answer."""
    if not equations:
        return None
    size = len(equations[0][0])
    scales = [max(abs(row[i]) for row, _ in equations) for i in range(size)]
    if min(scales) <= 0:
        return None
    scaled = [([row[i] / scales[i] for i in range(size)], value) for row, value in equations]
    matrix = [
        [sum(row[i] * row[j] for row, _ in scaled) for j in range(size)]
        + [sum(row[i] * value for row, value in scaled)]
        for i in range(size)
    ]
    for column in range(size):
        pivot = max(range(column, size), key=lambda i: abs(matrix[i][column]))
        if abs(matrix[pivot][column]) <= SINGULAR * len(equations):
            return None
        matrix[column], matrix[pivot] = matrix[pivot], matrix[column]
        for i in range(size):
            if i != column:
                factor = matrix[i][column] / matrix[column][column]
                matrix[i] = [a - factor * b for a, b in zip(matrix[i], matrix[column], strict=True)]
    return [matrix[i][size] / matrix[i][i] / scales[i] for i in range(size)]


def decoding(source: Source, priced: Priced) -> dict[str, CostVector]:
    """What decoding a stream takes."""
    pixels = source.width * source.height
    bits = source.bitrate_bps / source.fps
    memory = pixels * priced.cost.memory_bytes_per_pixel
    cpu = priced.cost.cpu.seconds(pixels, bits) * source.fps
    if priced.device == CPU:
        return {CPU: CostVector(decode=cpu, memory_bytes=memory, ingress_bps=source.bitrate_bps)}
    device = priced.cost.device.seconds(pixels, bits) * source.fps
    return {
        CPU: CostVector(decode=cpu, ingress_bps=source.bitrate_bps),
        priced.device: CostVector(decode=device, memory_bytes=memory),
    }


def rendering(source: Source, rendition: Rendition, priced: Priced, scaling: Rate) -> dict[str, CostVector]:
    """What scaling and encoding one rendition takes. Scaling is done on the CPU."""
    pixels = rendition.width * rendition.height
    bits = rendition.bitrate_bps / rendition.fps
    same = (rendition.width, rendition.height) == (source.width, source.height)
    scale = 0.0 if same else scaling.seconds(source.width * source.height, pixels) * rendition.fps
    memory = pixels * priced.cost.memory_bytes_per_pixel
    cpu = priced.cost.cpu.seconds(pixels, bits) * rendition.fps
    egress = float(rendition.bitrate_bps)
    if priced.device == CPU:
        return {CPU: CostVector(scale=scale, encode=cpu, memory_bytes=memory, egress_bps=egress)}
    device = priced.cost.device.seconds(pixels, bits) * rendition.fps
    return {
        CPU: CostVector(scale=scale, encode=cpu, egress_bps=egress),
        priced.device: CostVector(encode=device, memory_bytes=memory, sessions=1),
    }


def total(parts: Iterable[Demand]) -> dict[str, CostVector]:
    """All of them together, by device."""
    found: dict[str, CostVector] = {}
    for part in parts:
        for device, cost in part.items():
            found[device] = found.get(device, CostVector()) + cost
    return found


def demand_of(
    work: Work, decoder: Priced, encoders: dict[str, Priced], scaling: Rate
) -> dict[str, CostVector]:
    """What a whole stream takes with these engines (encoders by the names of renditions)."""
    parts = [decoding(work.source, decoder)]
    parts += [rendering(work.source, one, encoders[one.name], scaling) for one in work.renditions]
    return total(parts)

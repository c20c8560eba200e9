"""The model of costs: fitted, and added up."""

import pytest

from devices.cost import CodecCost, Priced, Rate, demand_of, fit, fit_codec, fit_scaling
from devices.model import CPU, Choice, Rendition, Source, Work
from devices.survey import ladder
from devices.trial.wire import Point, ScalePoint

SOFT = Rate(0.0, 5e-9, 3e-8)
SOURCE = Source("h264", 1920, 1080, 30.0, 6_000_000)


def priced(device: str, rate: Rate, cpu: Rate | None = None) -> Priced:
    return Priced(Choice("engine", device, "yuv420p"), CodecCost(rate, cpu or rate))


def test_what_follows_the_model_is_found_exactly() -> None:
    true = Rate(0.001, 5e-9, 3e-8)
    rows = [(1.0, 2_073_600.0, 166_000.0), (1.0, 2_073_600.0, 66_000.0), (1.0, 230_400.0, 26_000.0)]
    found = fit(rows, [true.seconds(*row[1:]) for row in rows])
    assert found.fixed_s == pytest.approx(true.fixed_s, rel=1e-4)
    assert found.pixel_s == pytest.approx(true.pixel_s, rel=1e-4)
    assert found.extra_s == pytest.approx(true.extra_s, rel=1e-4)


def test_no_term_is_negative() -> None:
    rows = [(1.0, 2_073_600.0, 166_000.0), (1.0, 2_073_600.0, 66_000.0), (1.0, 230_400.0, 26_000.0)]
    found = fit(rows, [0.010, 0.012, 0.0012])  # more bits took less time: noise
    assert min(found.fixed_s, found.pixel_s, found.extra_s) >= 0
    assert found.seconds(2_073_600, 100_000) == pytest.approx(0.011, rel=0.15)


def test_nothing_measured_costs_nothing() -> None:
    assert fit([], []) == Rate()
    assert fit_codec([]).device == Rate()
    assert fit([(1.0, 1.0, 1.0)], [0.0]) == Rate()


def test_points_of_hardware_have_two_prices() -> None:
    points = [Point(1920, 1080, 100_000, 0.004, 0.001, 1 << 28), Point(640, 360, 20_000, 0.0005, 0.0002)]
    cost = fit_codec(points)
    assert cost.device.seconds(1920 * 1080, 100_000) == pytest.approx(0.004, rel=0.05)
    assert cost.cpu.seconds(1920 * 1080, 100_000) == pytest.approx(0.001, rel=0.05)
    assert cost.memory_bytes_per_pixel == pytest.approx((1 << 28) / (1920 * 1080))


def test_scaling() -> None:
    sizes = ((1920, 1080, 1280, 720), (1920, 1080, 640, 360), (1280, 720, 854, 480))
    points = [ScalePoint(*size, 2e-10 * size[0] * size[1] + 4e-10 * size[2] * size[3]) for size in sizes]
    rate = fit_scaling(points)
    assert rate.seconds(1920 * 1080, 854 * 480) == pytest.approx(
        2e-10 * 2_073_600 + 4e-10 * 409_920, rel=0.01
    )


def test_a_ladder_in_software_takes_of_the_cpu_alone() -> None:
    work = ladder()
    encoders = {one.name: priced(CPU, SOFT) for one in work.renditions}
    demand = demand_of(work, priced(CPU, Rate(0.0, 1e-9, 1e-8)), encoders, Rate(0.0, 2e-10, 4e-10))
    assert list(demand) == [CPU]
    cost = demand[CPU]
    assert cost.decode == pytest.approx((2_073_600 * 1e-9 + 200_000 * 1e-8) * 30)
    pixels = sum(one.width * one.height for one in work.renditions)
    bits = sum(one.bitrate_bps for one in work.renditions)
    assert cost.encode == pytest.approx(pixels * 5e-9 * 30 + bits * 3e-8)
    scaled = sum(one.width * one.height for one in work.renditions[1:])  # 1080p is not scaled
    assert cost.scale == pytest.approx((3 * 2_073_600 * 2e-10 + scaled * 4e-10) * 30)
    assert (cost.ingress_bps, cost.egress_bps, cost.sessions) == (6_000_000, bits, 0)


def test_an_encoder_in_hardware_takes_sessions_there_and_scaling_here() -> None:
    work = Work(SOURCE, (Rendition("720p", "h264", 1280, 720, 30.0, 3_000_000),))
    encoder = priced("gpu", Rate(0.0, 1e-9, 0.0), Rate(0.0, 1e-10, 0.0))
    demand = demand_of(work, priced(CPU, Rate(0.0, 1e-9, 0.0)), {"720p": encoder}, Rate(0.0, 2e-10, 4e-10))
    assert demand["gpu"].sessions == 1
    assert demand["gpu"].encode == pytest.approx(921_600 * 1e-9 * 30)
    assert demand["gpu"].scale == 0
    assert demand[CPU].encode == pytest.approx(921_600 * 1e-10 * 30)
    assert demand[CPU].scale > 0
    assert demand[CPU].sessions == 0

"""Glass to glass: how old the demo's picture is when it comes on screen, from its burnt-in clock.

Camera and screen are one machine here, so one clock serves both ends. Besides the tests,
`scripts/bench` uses this.
"""

from pathlib import Path
from typing import Any

CHROMIUM = "/usr/bin/chromium"
CHROMIUM_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
)
CLOCKSTRIP = (Path(__file__).parent / "clockstrip.js").read_text().split("\n", 1)[1].strip()


def measure_glass_to_glass(page: Any, seconds: float) -> list[float]:
    """Ages in milliseconds of the pictures that the page's <video> shows during some seconds.

    `page` is a Playwright page (sync API) that plays a stream with the demo's picture. About ten
    pictures a second are read; fewer, or none, when it stalls.
    """
    script = f"seconds => {CLOCKSTRIP}.measure(document.querySelector('video'), seconds)"
    ages: list[float] = page.evaluate(script, seconds)
    return ages


def read_clock(page: Any) -> int | None:
    """The time on the picture on screen, milliseconds since 1970; None when there is none."""
    shown: int | None = page.evaluate(f"() => {CLOCKSTRIP}.readVideo(document.querySelector('video'))")
    return shown


def percentile(values: list[float], share: float) -> float:
    """The value below which `share` (0 to 1) of the values lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

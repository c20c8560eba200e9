"""Glass to glass: how old the picture is that a browser shows, by the demo stream's burnt-in clock."""

import importlib.util
import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Error as BrowserError
from playwright.sync_api import Page, sync_playwright

from fwbench.bench import Bench, Measure
from fwbench.servers import ROOT, Node, ServerError, missing
from fwbench.summary import Column, Sample, Target, percentile

STREAM = "demo"
_METER = ROOT / "tests" / "browser" / "glass.py"
_SETTLE_MS = 5000  # players begin far back and catch up
_TRANSPORTS = {"WebSocket": "websocket", "LL-HLS with hls.js": "hls"}


class GlassRow:
    name = "glass"
    title = "glass to glass in Chromium, burnt-in clock of --demo"
    sides = tuple(_TRANSPORTS)
    websocket, hls = sides
    columns = (
        Column("glass_ms", "median ms"),
        Column("glass_p95_ms", "95 % ms"),
        Column("glass_max_ms", "longest ms"),
        Column("samples", "pictures read"),
        Column("server_core_percent", "server with encoder, % of a core"),
    )
    targets = (
        Target(websocket, "glass_ms", 500, "WebSocket, ms"),
        Target(hls, "glass_ms", 2000, "LL-HLS, ms"),
    )

    def missing(self) -> str:
        return missing("chromium") or ("" if _METER.exists() else f"no {_METER.relative_to(ROOT)}")

    @contextmanager
    def open(self, bench: Bench) -> Iterator[Measure]:
        meter = _meter()
        yield lambda side: self._one(bench, side, meter)

    def _one(self, bench: Bench, side: str, meter: Any) -> Sample:
        with bench.node("--demo") as node, sync_playwright() as driver:
            browser = driver.chromium.launch(
                executable_path=meter.CHROMIUM, args=list(meter.CHROMIUM_ARGUMENTS)
            )
            try:
                return _watch(bench, node, side, browser.new_page(), meter)
            except BrowserError as error:
                raise ServerError(f"{side}: {error}") from error
            finally:
                browser.close()


def _watch(bench: Bench, node: Node, side: str, page: Page, meter: Any) -> Sample:
    transport = _TRANSPORTS[side]
    page.goto(f"http://{node.host}:{node.http_port}/watch/{STREAM}?transport={transport}")
    page.wait_for_timeout(_SETTLE_MS)
    before_s = node.program.cpu_s()
    ages: list[float] = meter.measure_glass_to_glass(page, bench.seconds)
    cpu_s = node.program.cpu_s() - before_s
    used = page.evaluate("() => window.fwplayer.transport")
    if used != transport:
        state = page.evaluate("() => JSON.stringify(window.fwplayer.stats())")
        raise ServerError(f"the player used {used}, not {transport}: {state}")
    if not ages:
        raise ServerError("no picture with a readable clock")
    return {
        "glass_ms": statistics.median(ages),
        "glass_p95_ms": percentile(ages, 0.95),
        "glass_max_ms": max(ages),
        "samples": float(len(ages)),
        "server_core_percent": 100 * cpu_s / bench.seconds,
    }


def _meter() -> Any:
    """The module of the browser tests, by its path: CHROMIUM, CHROMIUM_ARGUMENTS, measure_glass_to_glass."""
    spec = importlib.util.spec_from_file_location("glass", _METER)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


ROWS = (GlassRow(),)

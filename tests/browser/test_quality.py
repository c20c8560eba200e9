"""What the player tells a node of what is on screen, against the clock that is burnt into the picture."""

import json
import time
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest
from glass import measure_glass_to_glass, percentile

pytestmark = pytest.mark.browser

OpenPage = Callable[..., Any]
# The clock is drawn before the picture is coded and sent, the player counts from the node's reception:
# about 100 ms. The rest is for medians of few samples.
TOLERANCE_MS = 500
PATIENCE_S = 15.0
LEAVE = "() => window.dispatchEvent(new Event('pagehide'))"


def quality_of(demo: Any) -> dict[str, Any]:
    """What the node says of the viewers of its stream."""
    with urllib.request.urlopen(demo.url("/api/v1/streams/demo", "admin"), timeout=10) as answer:
        found: dict[str, Any] = json.load(answer)["quality"] or {"by_transport": {}}
    return found


def tell(viewer: Any, demo: Any, transport: str) -> dict[str, Any]:
    """Have the page tell now: what the node has of that transport then, once it heard of more than before."""
    before = quality_of(demo)["by_transport"].get(transport, {}).get("watched_s", -1)
    viewer.page.evaluate(LEAVE)
    until = time.monotonic() + PATIENCE_S
    while True:
        found: dict[str, Any] = quality_of(demo)["by_transport"].get(transport) or {"watched_s": -1}
        if found["watched_s"] > before:
            return found
        assert time.monotonic() < until, f"nothing more was told of {transport}"
        time.sleep(0.1)


def compare(viewer: Any, demo: Any, transport: str) -> None:
    """What is told of some seconds, with what the picture says in the same seconds."""
    tell(viewer, demo, transport)
    ages = measure_glass_to_glass(viewer.page, 3)
    found = tell(viewer, demo, transport)
    # On a machine that is too busy to play evenly, the two do not look at the same pictures.
    tolerance_ms = TOLERANCE_MS + max(ages) - min(ages)
    assert abs(found["latency_ms"]["p50"] - percentile(ages, 0.5)) < tolerance_ms
    assert 0 < found["startup_ms"]["p50"] < 30_000
    assert found["watched_s"] > 2
    assert 0 <= found["stall_ratio"] <= 1


def test_the_node_is_told_the_age_of_the_picture(open_page: OpenPage, demo: Any) -> None:
    viewer = open_page("/watch/demo?transport=ws")
    viewer.until_playing("websocket")
    compare(viewer, demo, "websocket")


def test_hls_js_says_who_it_is_and_addresses_of_media_stay_the_same(
    open_page: OpenPage, demo: Any, need_hls: None
) -> None:
    asked: list[str] = []
    viewer = open_page(
        "/watch/demo?transport=hls",
        lambda page: page.on("request", lambda request: asked.append(request.url)),
    )
    viewer.until_playing("hls")
    compare(viewer, demo, "hls")
    media = [url for url in asked if ".m4s" in url or ".mp4" in url]
    playlists = [url for url in asked if "/v1/index.m3u8" in url]
    assert media and not [url for url in media if "CMCD" in url]
    telling = [url for url in playlists if "CMCD=" in url]
    assert 1 <= len(telling) < len(playlists) / 2
    quality = quality_of(demo)
    assert quality["cmcd"]["requests"] >= 1 and quality["heard"] == 2
    assert quality["by_rendition"]["v1"]["latency_ms"]


def test_only_what_a_viewer_waits_for_counts_as_waiting(browser: Any, demo: Any) -> None:
    page = browser.new_page()
    page.goto(demo.url("/healthz"))
    script = """async steps => {
      const { Viewing } = await import('/player/quality.js');
      const viewing = new Viewing();
      for (const [state, at] of steps) viewing.enter(state, at);
      return viewing.report();
    }"""

    def after(*steps: tuple[str, int]) -> tuple[int | None, int, int, int]:
        told = page.evaluate(script, steps)
        return told["startup_ms"], told["watched_ms"], told["stalled_ms"], told["stalls"]

    playing = (("connecting", 100), ("playing", 500))
    assert after(*playing, ("playing", 1500)) == (400, 1000, 0, 0)
    assert after(*playing, ("stalled", 1000), ("playing", 1200)) == (400, 700, 200, 1)
    # A lost connection is a stall, a stream that ended, a pause and a rest are none.
    again = ("failed", 1000), ("connecting", 1100), ("playing", 1300)
    assert after(*playing, *again) == (400, 800, 300, 1)
    assert after(*playing, ("waiting", 1000), ("connecting", 9000), ("playing", 9500)) == (400, 500, 0, 0)
    assert after(*playing, ("paused", 1000), ("playing", 5000), ("resting", 6000)) == (400, 1500, 0, 0)
    # Before the first picture, only the last wait counts.
    assert after(("connecting", 0), ("waiting", 900), ("connecting", 60_000), ("playing", 60_300))[0] == 300
    assert after(("connecting", 0), ("blocked", 900), ("playing", 60_000), ("stalled", 61_000)) == (
        None,
        1000,
        0,
        1,
    )
    assert after(("connecting", 0), ("failed", 900)) == (None, 0, 0, 0)
    page.close()

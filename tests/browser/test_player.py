"""The player pages in Chromium against a running node."""

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from glass import measure_glass_to_glass, percentile, read_clock

pytestmark = pytest.mark.browser

OpenPage = Callable[..., Any]
HEVC = "hvc1.1.6.L93.B0"
HEVC_PLAYLIST = f'#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1000000,CODECS="{HEVC},mp4a.40.2"\nv1/index.m3u8\n'
ONE_MINUTE_MS = 60_000
# Sanity only, on a machine that decodes in software beside everything else; the figures are scripts/bench's.
WEBSOCKET_LATENCY_MAX_MS = 3_000
HLS_LATENCY_MAX_MS = 6_000


def test_plays_over_websocket_by_itself(open_page: OpenPage) -> None:
    viewer = open_page("/watch/demo")
    viewer.until_playing("websocket")
    stats = viewer.stats()
    assert (stats["width"], stats["height"]) == (1280, 720)
    assert stats["failures"] == 0
    assert read_clock(viewer.page) is not None
    ages = measure_glass_to_glass(viewer.page, 3)
    assert 0 < percentile(ages, 0.5) < WEBSOCKET_LATENCY_MAX_MS
    assert 0 < viewer.page.evaluate("() => fwplayer.latencyMs()") < WEBSOCKET_LATENCY_MAX_MS


def test_plays_over_hls(open_page: OpenPage, need_hls: None) -> None:
    viewer = open_page("/watch/demo?transport=hls")
    viewer.until_playing("hls")
    ages = measure_glass_to_glass(viewer.page, 3)
    assert 0 < percentile(ages, 0.5) < HLS_LATENCY_MAX_MS
    assert viewer.stats()["engine"] == "hls.js"
    assert 0 < viewer.page.evaluate("() => fwplayer.latencyMs()") < HLS_LATENCY_MAX_MS


def test_goes_on_with_hls_when_websockets_are_blocked(open_page: OpenPage, need_hls: None) -> None:
    viewer = open_page(
        "/watch/demo", lambda page: page.route_web_socket("**/ws", lambda socket: socket.close())
    )
    viewer.until_playing("hls")
    viewer.part("info").click()
    assert "WebSocket" in viewer.part("log").inner_text()
    assert "using HLS" in viewer.part("log").inner_text()
    assert "HLS" in viewer.part("transport").locator("option:checked").inner_text()


def test_goes_on_with_hls_when_the_websocket_dies(open_page: OpenPage, need_hls: None) -> None:
    sockets: list[Any] = []

    def relay(socket: Any) -> None:
        if sockets:
            socket.close()  # and does not come back
            return
        sockets.append(socket)
        server = socket.connect_to_server()
        socket.on_message(server.send)
        server.on_message(socket.send)

    viewer = open_page("/watch/demo", lambda page: page.route_web_socket("**/ws", relay))
    viewer.until_playing("websocket")
    sockets[0].close(code=1011, reason="broken on purpose")
    viewer.until_playing("hls")
    viewer.part("info").click()
    assert "broken on purpose" in viewer.part("log").inner_text()


def test_comes_back_by_itself_after_everything_failed(open_page: OpenPage) -> None:
    viewer = open_page("/watch/demo", lambda page: page.route("**/live/**", lambda route: route.abort()))
    viewer.page.route_web_socket("**/ws", lambda socket: socket.close())
    viewer.page.reload()
    viewer.until("() => window.fwplayer?.state", "failed")
    assert viewer.part("retry").is_visible()
    viewer.page.unroute_all()
    viewer.page.route_web_socket("**/ws", lambda socket: relay_all(socket))
    viewer.part("retry").click()
    viewer.until("() => fwplayer.state", "playing")


def relay_all(socket: Any) -> None:
    socket.connect_to_server()


def test_starts_by_itself_when_the_stream_does_and_waits_when_it_ends(open_page: OpenPage, demo: Any) -> None:
    viewer = open_page("/watch/later")
    viewer.until("() => window.fwplayer?.state", "waiting")
    assert "later is not live" in viewer.part("cover").inner_text()
    with publishing(demo.rtmp_url("later") + f"?key={demo.new_key()}"):
        viewer.until_playing("websocket")
        assert viewer.part("cover").is_hidden()
    viewer.until("() => fwplayer.state", "waiting")
    with publishing(demo.rtmp_url("later") + f"?key={demo.new_key()}"):
        viewer.until_playing("websocket")


@contextmanager
def publishing(url: str) -> Iterator[None]:
    """A small H.264 and AAC stream by ffmpeg."""
    program = shutil.which("ffmpeg")
    if program is None:
        pytest.skip("ffmpeg is not installed")
    picture = ("-f", "lavfi", "-i", "testsrc2=size=320x180:rate=25")
    tone = ("-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000")
    coding = (
        "-c:v",
        "libx264",
        "-preset",
        "ultrafast",
        "-tune",
        "zerolatency",
        "-g",
        "25",
        "-pix_fmt",
        "yuv420p",
    )
    sender = subprocess.Popen(
        [program, "-v", "error", "-nostdin", "-re", *picture, *tone, *coding, "-c:a", "aac", "-f", "flv", url]
    )
    try:
        yield
    finally:
        sender.kill()
        sender.wait()


@pytest.mark.parametrize("size", [(1280, 800), (390, 844)], ids=["desktop", "phone"])
def test_names_the_codec_that_the_browser_lacks(
    open_page: OpenPage, size: tuple[int, int], need_hls: None
) -> None:
    init = {
        "type": "init",
        "mime": f'video/mp4; codecs="{HEVC},mp4a.40.2"',
        "unix_us_at_zero": 0,
        "tracks": [],
    }

    def prepare(page: Any) -> None:
        page.route_web_socket("**/ws", lambda socket: socket.send(json.dumps(init)))
        page.route(
            "**/index.m3u8*",
            lambda route: route.fulfill(content_type="application/vnd.apple.mpegurl", body=HEVC_PLAYLIST),
        )

    viewer = open_page("/watch/demo", prepare, viewport={"width": size[0], "height": size[1]})
    viewer.until("() => window.fwplayer?.state", "unsupported")
    said = viewer.part("cover").inner_text()
    assert "This browser cannot play HEVC (H.265) video" in said
    assert "Safari" in said
    assert "VLC" in said
    assert viewer.part("links").is_visible()


def test_knows_what_debians_chromium_plays(open_page: OpenPage) -> None:
    viewer = open_page("/watch/nothing")
    playable = viewer.page.evaluate(
        'codecs => codecs.filter(codec => MediaSource.isTypeSupported(`video/mp4; codecs="${codec}"`))',
        ["avc1.64001f", "mp4a.40.2", "vp09.00.31.08", "av01.0.05M.08", "opus", "flac", HEVC, "ac-3", "ec-3"],
    )
    assert playable == ["avc1.64001f", "mp4a.40.2", "vp09.00.31.08", "av01.0.05M.08", "opus", "flac"]


def test_controls_by_keyboard_and_pointer(open_page: OpenPage) -> None:
    viewer = open_page("/watch/demo")
    viewer.until_playing("websocket")
    video = "() => document.querySelector('video')"
    assert viewer.page.evaluate(f"{video}.muted") is True
    viewer.part("tap").click()
    assert viewer.page.evaluate(f"{video}.muted") is False
    assert viewer.part("tap").is_hidden()
    viewer.page.keyboard.press("m")
    assert viewer.page.evaluate(f"{video}.muted") is True
    viewer.page.keyboard.press("ArrowUp")
    assert viewer.page.evaluate(f"{video}.muted") is False
    viewer.page.keyboard.press("k")
    viewer.until("() => fwplayer.state", "paused")
    assert viewer.part("play").get_attribute("aria-label") == "Play"
    viewer.page.keyboard.press("k")
    viewer.until("() => fwplayer.state", "playing")
    viewer.page.keyboard.press("i")
    viewer.until("() => document.querySelector('[data-part=figures]').textContent.includes('WebSocket')")
    viewer.page.keyboard.press("Escape")
    assert viewer.part("details").is_hidden()


def test_every_control_has_a_name_and_can_be_reached(open_page: OpenPage) -> None:
    viewer = open_page("/watch/demo")
    viewer.until_playing("websocket")
    nameless = viewer.page.evaluate(
        "() => [...document.querySelectorAll('.player button, .player select, .player input')]"
        ".filter(e => !(e.getAttribute('aria-label') || e.textContent.trim())).map(e => e.outerHTML)"
    )
    assert nameless == []
    reached = set()
    for _ in range(14):
        viewer.page.keyboard.press("Tab")
        reached.add(viewer.page.evaluate("() => document.activeElement.dataset.part ?? ''"))
    assert {"play", "mute", "volume", "live", "transport", "info", "fullscreen"} <= reached


def test_the_viewer_chooses_the_transport(open_page: OpenPage, need_hls: None) -> None:
    viewer = open_page("/watch/demo")
    viewer.until_playing("websocket")
    viewer.part("transport").select_option("hls")
    viewer.until_playing("hls")
    viewer.part("transport").select_option("websocket")
    viewer.until_playing("websocket")


def test_rests_while_hidden_and_muted(open_page: OpenPage) -> None:
    def prepare(page: Any) -> None:
        page.clock.install()
        page.add_init_script(
            "Object.defineProperty(document, 'hidden', {get: () => Boolean(window.isHidden)})"
        )

    viewer = open_page("/watch/demo", prepare)
    viewer.until_playing("websocket")
    tell = "hidden => { window.isHidden = hidden; document.dispatchEvent(new Event('visibilitychange')); }"
    viewer.page.evaluate(tell, True)
    viewer.page.clock.run_for(500)
    viewer.page.clock.fast_forward(ONE_MINUTE_MS + 1_000)
    viewer.until("() => fwplayer.state", "resting")
    assert viewer.stats()["transport"] is None
    viewer.page.evaluate(tell, False)
    viewer.until_playing("websocket")


def test_the_embedded_player_fills_its_frame(open_page: OpenPage) -> None:
    viewer = open_page("/embed/demo", viewport={"width": 640, "height": 480})
    viewer.until_playing("websocket")
    box = viewer.page.locator(".player").bounding_box()
    assert (box["x"], box["y"], box["width"], box["height"]) == (0, 0, 640, 480)


@pytest.mark.parametrize("path", ["/", "/watch/demo", "/embed/demo"])
def test_nothing_sticks_out_at_any_width(open_page: OpenPage, path: str) -> None:
    viewer = open_page(path)
    if path != "/":
        viewer.until_playing("websocket")
    for width in (320, 390, 768, 1280):
        viewer.page.set_viewport_size({"width": width, "height": 700})
        assert viewer.page.evaluate("() => document.documentElement.scrollWidth") <= width
        assert not viewer.page.evaluate(
            "() => [...document.querySelectorAll('.bar')].some(bar => bar.scrollWidth > bar.clientWidth)"
        ), width


def test_the_home_page_leads_to_the_stream(open_page: OpenPage) -> None:
    viewer = open_page("/")
    viewer.page.get_by_role("link", name="demo").click()
    viewer.until_playing("websocket")
    assert viewer.page.get_by_role("heading", level=1).inner_text() == "demo"

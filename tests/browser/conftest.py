"""A real Chromium, a node with the demo, and pages that must not complain."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parent.parent
sys.path.append(str(FOLDER))  # not packages of the product: made importable for the tests here

from glass import CHROMIUM, CHROMIUM_ARGUMENTS  # noqa: E402 - found by the line above

PATIENCE_S = 30.0  # two busy cores decode in software here
POLL_MS = 50
EXPECTED_NOISE = ("status of 404", "status of 503", "ERR_FAILED", "WebSocket connection to")


class Watcher:
    """One page with a player."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.faults: list[str] = []
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("console", self._said)

    def _said(self, message: ConsoleMessage) -> None:
        text = message.text
        if message.type == "error" and not any(noise in text for noise in EXPECTED_NOISE):
            self.faults.append(text)

    def stats(self) -> dict[str, Any]:
        found: dict[str, Any] = self.page.evaluate("() => window.fwplayer ? fwplayer.stats() : {}")
        return found

    @property
    def state(self) -> str:
        return str(self.stats().get("state"))

    def until(self, script: str, wanted: object = True, patience_s: float = PATIENCE_S) -> None:
        """Wait until an expression has a value. (The pages forbid eval, so Playwright's own wait fails.)"""
        deadline = time.monotonic() + patience_s
        while (found := self.page.evaluate(script)) != wanted:
            assert time.monotonic() < deadline, (
                f"{script} is {found!r}, not {wanted!r} after {patience_s:g} s: {self.stats()}"
            )
            self.page.wait_for_timeout(POLL_MS)

    def until_playing(self, transport: str) -> None:
        """Wait until it plays over that transport and pictures keep coming."""
        self.until("() => window.fwplayer?.state + ' ' + window.fwplayer?.transport", f"playing {transport}")
        shown = self.stats()["frames"]
        self.until(f"() => fwplayer.stats().frames > {shown + 10}")

    def part(self, name: str) -> Any:
        """A named part of the player."""
        return self.page.locator(f'[data-part="{name}"]')


OpenPage = Callable[..., Watcher]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if not Path(CHROMIUM).exists():
        pytest.skip(f"{CHROMIUM} is not installed")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=list(CHROMIUM_ARGUMENTS))
        yield running
        running.close()


@pytest.fixture(scope="session")
def hls_script() -> bool:
    """Whether the node serves hls.js: fetched as scripts/run does."""
    fetched = subprocess.run([ROOT / "scripts/fetch-player"], capture_output=True, check=False)
    return fetched.returncode == 0 and (ROOT / ".cache/player/hls.min.js").exists()


@pytest.fixture
def need_hls(hls_script: bool) -> None:
    if not hls_script:
        pytest.skip("hls.js could not be fetched: npm is missing or offline")


@pytest.fixture(scope="session")
def running_node(pytestconfig: pytest.Config) -> Any:
    """The class RunningNode; conftest.py is a plugin of pytest and no importable module."""
    return pytestconfig.pluginmanager.get_plugin(str(FOLDER.parent / "conftest.py")).RunningNode


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory, running_node: Any, hls_script: bool) -> Iterator[Any]:
    """A node that publishes `demo`; other streams end a second after their publisher."""
    environment = {"FWNODE_INGEST_LINGER_S": "1"}
    node = running_node(tmp_path_factory.mktemp("demo") / "data", "--demo", environment=environment)
    yield node
    node.close()


@pytest.fixture
def open_page(browser: Browser, demo: Any) -> Iterator[OpenPage]:
    """`open_page("/watch/demo", prepare=..., **context options)`; no page may have had an error."""
    watchers: list[Watcher] = []

    def open_(path: str, prepare: Callable[[Page], object] | None = None, **options: Any) -> Watcher:
        context = browser.new_context(**({"viewport": {"width": 1280, "height": 800}} | options))
        watcher = Watcher(context.new_page())
        watchers.append(watcher)
        if prepare is not None:
            prepare(watcher.page)
        watcher.page.goto(demo.url(path))
        return watcher

    yield open_
    faults = [fault for watcher in watchers for fault in watcher.faults]
    for watcher in watchers:
        watcher.page.context.close()
    assert not faults, faults

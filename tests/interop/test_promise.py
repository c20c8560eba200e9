"""A node with a budget, drained and resumed: real processes, real viewers."""

import http.client
import signal
import socket
import threading
import time

import pytest
from live_node import STOPPED, LiveNode, StartNode, until

pytestmark = pytest.mark.interop

WINDOW_S = 10.0  # over which the promise is a mean
READ_BYTES = 65536
BUDGET_MBPS = 6.5  # the demo has 2.6 at most: there is room for two viewers and a half


class Watcher:
    """Takes a progressive stream on a thread of its own, and says how much came."""

    def __init__(self, node: LiveNode) -> None:
        self._connection = node.connect()
        self._connection.request("GET", "/live/demo.ts")
        self._socket: socket.socket = self._connection.sock
        self._answer: http.client.HTTPResponse = self._connection.getresponse()
        self.status, self.retry_after = self._answer.status, self._answer.getheader("Retry-After")
        self.bytes, self.says = 0, ""
        self._thread = threading.Thread(target=self._take, daemon=True)
        if self.status == 200:
            self._thread.start()
        else:
            self.says = self._answer.read().decode()
            self._close()

    def _take(self) -> None:
        while data := self._answer.read1(READ_BYTES):
            self.bytes += len(data)

    def leave(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._close()

    def _close(self) -> None:
        self._answer.close()
        self._connection.close()


def end(node: LiveNode) -> None:
    """Stop it in the middle of the test."""
    assert node.stop(signal.SIGTERM) == STOPPED
    node.killed = True


def admitted(node: LiveNode) -> Watcher | None:
    """A viewer that is let in; before the bitrate is known there is no room."""
    watcher = Watcher(node)
    return watcher if watcher.status == 200 else None


def test_a_budget_is_kept_and_a_drain_lasts_over_a_restart(start: StartNode) -> None:
    node = start("--demo", uplink_mbps=BUDGET_MBPS)
    node.await_stream("demo")
    watchers = [until(lambda: admitted(node), "a viewer is let in") for _ in range(2)]
    refused = Watcher(node)
    assert refused.status == 503 and refused.retry_after == "10"
    assert "this node's uplink is full: its owner gives" in refused.says
    marks = []
    for _ in range(round(WINDOW_S) + 2):
        marks.append((time.monotonic(), sum(watcher.bytes for watcher in watchers)))
        time.sleep(1)
    rates = [
        (after - before) * 8 / (ended - began)
        for (began, before), (ended, after) in zip(marks, marks[round(WINDOW_S) :], strict=False)
    ]
    assert 0 < max(rates) <= BUDGET_MBPS * 1e6

    drained = node.cli_json("drain", "--role", "viewers", "--for", "1h", "--json")
    assert drained["viewers"] == 2 and list(drained["drain"]) == ["viewers"]
    assert node.fetch("/healthz").status == 503
    assert "stop serving" in Watcher(node).says
    for watcher in watchers:
        watcher.leave()
    assert "Still here: 0 viewers" in node.cli("drain", "--role", "viewers", "--for", "1h", "--wait").stdout
    sent = node.status()["promise"]["month_bytes"]
    end(node)

    again = start(data_dir=node.data_dir)
    assert again.fetch("/healthz").status == 503
    promise = again.status()["promise"]
    assert promise["state"] == "draining" and promise["month_bytes"] >= sent > 0
    assert again.cli_json("resume", "--json")["state"] == "open"
    assert again.fetch("/healthz").status == 200

"""Nodes in processes of their own on hosts of a lab, which open streams to each other on request."""

import contextlib
import json
import os
import secrets
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

from lab import Host
from natlab import NatLab, RouterKind

from mesh.identity.invite import Terms, make_invite
from mesh.identity.key import SEED_BYTES, SecretKey

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = Path(__file__).with_name("stream_node.py")
PORT = 7077
READY_S = 20.0
LINKED_S = 15.0
STREAM_S = 15.0

Event: TypeAlias = dict[str, Any]


class Node:
    """A process of `stream_node.py` on a host."""

    def __init__(self, host: Host, invite: str, name: str, seeds: list[str]) -> None:
        what = json.dumps({"invite": invite, "name": name, "seeds": seeds})
        self.name = name
        self.address = f"{host.address}:{PORT}"
        self.noted: list[Event] = []
        self._process = subprocess.Popen(
            (*host.prefix, sys.executable, str(PROGRAM), what),
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._rest = b""
        self._lines: list[bytes] = []

    def until(self, condition: Callable[[Event], bool], patience_s: float) -> Event:
        """The next event for which it holds."""
        deadline = time.monotonic() + patience_s
        while (left := deadline - time.monotonic()) > 0:
            if not self._lines:
                self._read(left)
                continue
            event = json.loads(self._lines.pop(0))
            self.noted.append(event)
            assert event.get("what") != "fault", event
            if condition(event):
                return event
        raise AssertionError(f"{self.name}: not in {patience_s:g} s: {self.noted[-10:]}")

    def stream(self, peer: "Node", seconds: float = 0.05) -> Event:
        """Open a stream and send on it."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"peer": peer.name, "seconds": seconds}).encode() + b"\n")
        self._process.stdin.flush()
        return self.until(lambda event: event["event"] == "stream", STREAM_S + seconds)

    def end(self) -> None:
        self._process.terminate()
        self._process.communicate()

    def _read(self, patience_s: float) -> None:
        assert self._process.stdout is not None
        if select.select([self._process.stdout], [], [], patience_s)[0]:
            data = os.read(self._process.stdout.fileno(), 1 << 16)
            assert data, f"{self.name} ended: {self.noted[-10:]}"
            *lines, self._rest = (self._rest + data).split(b"\n")
            self._lines += lines


@contextlib.contextmanager
def linked(lab: NatLab, one: RouterKind, other: RouterKind, public: int = 1) -> Iterator[tuple[Node, Node]]:
    """Two nodes behind such routers that have a link to each other, by the public ones."""
    owner = SecretKey(secrets.token_bytes(SEED_BYTES))
    invite = make_invite(
        owner,
        owner.node_id,
        Terms(uses=10),
        enrolment_seed=secrets.token_bytes(SEED_BYTES),
        seeds=(),
        now_unix_s=int(time.time()),
    ).line()
    nodes: list[Node] = []
    hosts = [*lab.public(public), lab.home(one).hosts[0], lab.home(other).hosts[0]]
    try:
        for number, host in enumerate(hosts):
            seeds = [node.address for node in nodes[:public]]
            nodes.append(Node(host, invite, f"n{number}", seeds))
            nodes[-1].until(lambda event: event["event"] == "ready", READY_S)
        ends = nodes[public], nodes[public + 1]
        for end, peer in (ends, ends[::-1]):
            end.until(lambda event, peer=peer: event.get("peer") == peer.name, LINKED_S)
        yield ends
    finally:
        for node in nodes:
            node.end()

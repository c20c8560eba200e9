"""One host of the laboratory of routers: a new member each round, which says how it is linked to another.

Commands are JSON lines: a `NatStart`, maybe some `NatFlow`, then `null`, which ends the round. Answers are
JSON lines, too: each has a word as `event` and, as `at`, seconds of the clock that all processes share.
"""

import importlib
import json
import os
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import msgspec
import trio

from fwbench.network import members
from fwbench.network.specs import BUFFER_BYTES, MESSAGE_BYTES, NatFlow, NatStart
from mesh.discovery.store import FILE_NAME, PeersFile
from mesh.errors import MeshError
from mesh.identity.membership import Membership
from mesh.link.live import Link
from mesh.link.model import TCP, Connection
from mesh.model import NodeId
from mesh.node.service import MeshNode, MeshParts
from mesh.node.steps import MeshSettings

PORT = 7077
_ECHO, _SINK = "echo", "sink"
_QUIC = "mesh.link.quic.service"
_LOOK_S = 0.002
_PACE_S = 0.04  # between messages of a paced stream: a frame of video


async def obey_rounds() -> None:
    """Until the end of input."""
    importlib.import_module(_QUIC)  # 0.15 s, which a node spends once in its life
    _say("ready")
    lines = _lines()
    async for line in lines:
        start = msgspec.json.decode(line, type=NatStart)
        async with trio.open_nursery() as nursery:
            node, watching = await nursery.start(_member, start)
            async for command in lines:
                flow = msgspec.json.decode(command, type=NatFlow | None)
                if flow is None:
                    break
                watching.cancel()  # it costs more than the flow may
                if flow.seconds:
                    await _send(node, start.peer, flow)
            nursery.cancel_scope.cancel()
        _say("ended")


async def _lines() -> AsyncIterator[bytes]:
    rest = b""
    async with trio.lowlevel.FdStream(os.dup(sys.stdin.fileno())) as commands:
        async for data in commands:
            *whole, rest = (rest + data).split(b"\n")
            for line in whole:
                yield line


def _say(event: str, **facts: object) -> None:
    sys.stdout.write(json.dumps({"event": event, "at": time.monotonic(), **facts}) + "\n")
    sys.stdout.flush()


async def _member(
    start: NatStart, *, task_status: trio.TaskStatus[tuple[MeshNode, trio.CancelScope]]
) -> None:
    key = members.new_key()
    membership = Membership(members.join(start.invite, key, start.name))
    with tempfile.TemporaryDirectory() as folder:
        peers_file = PeersFile(Path(folder, FILE_NAME))
        parts = MeshParts(_keep, _note, peers_file, tuple(start.seeds), mdns=False)
        _say("start")
        node = MeshNode(key, membership, None, MeshSettings(start.name, members.PROGRAM, PORT), parts)
        node.serve(_ECHO, _echo)
        node.serve(_SINK, _sink)
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        datagrams.setblocking(False)
        for each in (sock, datagrams):
            each.bind(("0.0.0.0", PORT))
        async with trio.open_nursery() as nursery:
            await nursery.start(node.run, [sock], [datagrams])
            watching = await nursery.start(_watch, node, start, nursery)
            task_status.started((node, watching))


async def _watch(
    node: MeshNode, start: NatStart, nursery: trio.Nursery, *, task_status: trio.TaskStatus[trio.CancelScope]
) -> None:
    """Say each change of the path to the peer, and want something of it as soon as it is known."""
    told, asks = ("", ""), start.asks
    with trio.CancelScope() as scope:
        task_status.started(scope)
        while True:
            links = node.core.connector.links.values()
            link = next((link for link in links if start.peer in ("", link.peer.name)), None)
            seen = (_path(link) if link else "", node.core.presence.udp.kind.value)
            if seen != told:
                told = seen
                _say("path", path=seen[0], kind=seen[1])
            if asks and (peer := _known(node, start.peer)) is not None:
                asks = False
                nursery.start_soon(_ask, node, peer)
            await trio.sleep(_LOOK_S)


def _known(node: MeshNode, name: str) -> NodeId | None:
    members = node.core.gossip.directory.members()
    return next((member for member in members if node.core.name_of(member) == name), None)


def _path(link: Link) -> str:
    if link.via is not None:
        return "relayed"
    return "direct" if link.carrier == TCP else "punched"


async def _ask(node: MeshNode, peer: NodeId) -> None:
    """A stream to the peer, and a byte there and back on it."""
    _say("wanted")
    try:
        connection = await node.open_stream(peer, _ECHO)
        try:
            await connection.send_all(b"?")
            if await connection.receive_some():
                _say("stream")
        finally:
            connection.close()
    except (MeshError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
        _say("note", what="no stream", facts={"reason": f"{type(error).__name__}: {error}"})


async def _echo(connection: Connection) -> None:
    while data := await connection.receive_some():
        await connection.send_all(data)


async def _send(node: MeshNode, name: str, flow: NatFlow) -> None:
    """Say what sending took, when the peer has all of it."""
    peer = _known(node, name)
    assert peer is not None
    inside = node._inside(peer)  # of a punched link, whose streams would else go over TCP of their own
    connection = await (inside.open_stream(_SINK) if inside else node.open_stream(peer, _SINK))
    message = os.urandom(int(flow.mbps * 1e6 / 8 * _PACE_S) or MESSAGE_BYTES)
    began, cpu_s, count = trio.current_time(), time.process_time(), 0
    while trio.current_time() < began + flow.seconds:
        await connection.send_all(message)
        count += 1
        if flow.mbps:
            await trio.sleep_until(began + count * _PACE_S)
    facts = {"bytes": count * len(message), "seconds": trio.current_time() - began}
    _say("sent", **facts, cpu_s=time.process_time() - cpu_s)
    await connection.aclose()


async def _sink(connection: Connection) -> None:
    buffer = bytearray(BUFFER_BYTES)
    total = await connection.receive_into(buffer)
    began, cpu_s = trio.current_time(), time.process_time()
    while count := await connection.receive_into(buffer):
        total += count
    _say("took", bytes=total, seconds=trio.current_time() - began, cpu_s=time.process_time() - cpu_s)


def _keep(_state: bytes) -> None:
    """Nobody starts it again."""


def _note(event: str, facts: Mapping[str, str]) -> None:
    _say("note", what=event, facts=dict(facts))

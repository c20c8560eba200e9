"""A member on one host of a lab, until its input ends. Argument: JSON of `invite`, `name` and `seeds`.

It says its `path` to each other member when that changes. A line of input is JSON of `peer`, by name, and
`seconds`: it opens a stream there, sends for so long, and says how that went.
"""

import json
import os
import secrets
import socket
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import trio

from mesh.discovery.store import FILE_NAME, PeersFile
from mesh.errors import MeshError
from mesh.identity.invite import enrol, parse_invite_untrusted
from mesh.identity.key import SEED_BYTES, SecretKey
from mesh.identity.membership import Membership
from mesh.link.model import TCP, Connection
from mesh.node.service import MeshNode, MeshParts
from mesh.node.steps import MeshSettings

PORT = 7077
LOOK_S = 0.02
MESSAGE_BYTES = 256 << 10
SERVICE = "sink"
DONE = b"that was all of it"


def say(event: str, **facts: object) -> None:
    print(json.dumps({"event": event, "at": time.monotonic(), **facts}), flush=True)


def note(event: str, facts: Mapping[str, str]) -> None:
    say("note", what=event, facts=dict(facts))


async def sink(connection: Connection) -> None:
    """Counts, then says how much came."""
    buffer, total, last = bytearray(MESSAGE_BYTES), 0, b""
    while last != DONE and (count := await connection.receive_into(buffer)):
        total += count
        last = (last + buffer[max(0, count - len(DONE)) : count])[-len(DONE) :]
    await connection.send_all(json.dumps({"bytes": total - len(DONE), "cpu_s": time.process_time()}).encode())


async def watch(node: MeshNode) -> None:
    told: dict[str, str] = {}
    while True:
        for link in node.core.connector.links.values():
            path = "relayed" if link.via else "direct" if link.carrier == TCP else "punched"
            if told.get(link.peer.name) != path:
                told[link.peer.name] = path
                say("path", peer=link.peer.name, path=path)
        await trio.sleep(LOOK_S)


async def send(node: MeshNode, wanted: Mapping[str, Any]) -> None:
    names = {link.peer.name: member for member, link in node.core.connector.links.items()}
    began = trio.current_time()
    try:
        connection = await node.open_stream(names[wanted["peer"]], SERVICE)
    except (MeshError, KeyError) as error:
        say("stream", error=f"{type(error).__name__}: {error}", open_s=trio.current_time() - began)
        return
    open_s = trio.current_time() - began
    message, began, cpu_s = os.urandom(MESSAGE_BYTES), trio.current_time(), time.process_time()
    sent = 0
    while trio.current_time() < began + wanted["seconds"]:
        await connection.send_all(message)
        sent += len(message)
    await connection.send_all(DONE)
    answer = json.loads(await connection.receive_some())
    seconds = trio.current_time() - began
    say(
        "stream",
        way=type(connection).__name__,
        remote=connection.peer.remote,
        open_s=open_s,
        megabytes_s=sent / seconds / 1e6,
        cpu_s_gb=(time.process_time() - cpu_s) / max(sent, 1) * 1e9,
        arrived=answer["bytes"],
        counters=node._streams.simultaneous.counters,
    )
    await connection.aclose()


async def main(invite: str, name: str, seeds: list[str]) -> None:
    key = SecretKey(secrets.token_bytes(SEED_BYTES))
    membership = Membership(enrol(parse_invite_untrusted(invite), key.node_id, name, int(time.time())).chain)
    with tempfile.TemporaryDirectory() as folder:
        parts = MeshParts(lambda _: None, note, PeersFile(Path(folder, FILE_NAME)), tuple(seeds), mdns=False)
        node = MeshNode(key, membership, None, MeshSettings(name, "fwnode test", PORT), parts)
        node.serve(SERVICE, sink)
        sockets = [socket.socket(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)]
        for sock in sockets:
            sock.setblocking(False)
            sock.bind(("0.0.0.0", PORT))
        async with trio.open_nursery() as nursery:
            await nursery.start(node.run, sockets[:1], sockets[1:])
            nursery.start_soon(watch, node)
            say("ready")
            rest = b""
            async for data in trio.lowlevel.FdStream(os.dup(sys.stdin.fileno())):
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    await send(node, json.loads(line))
            nursery.cancel_scope.cancel()


trio.run(main, *(json.loads(sys.argv[1])[field] for field in ("invite", "name", "seeds")))

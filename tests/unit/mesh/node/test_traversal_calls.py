"""Both ends of a relayed link begin to look for a path at once."""

import socket
from typing import Any

import pytest
import trio
import trio.testing

from mesh.link.control import Punch
from mesh.link.steps import Heard
from mesh.node.traversal import service as traversal

SECRET = bytes(range(16))
SMALLEST, LARGEST = bytes(32), b"\xff" * 32


@pytest.mark.parametrize(("peer", "secrets"), [(SMALLEST, "the peer's"), (LARGEST, "its own")])
async def test_only_the_call_of_the_smaller_key_goes_on(
    loopback: Any, monkeypatch: pytest.MonkeyPatch, peer: bytes, secrets: str
) -> None:
    """The other's is not even said late: it would end the search that both had agreed on."""
    monkeypatch.setattr(traversal, "FACTS_S", 0.02)
    node = loopback.make("first")
    said: list[Punch] = []
    spoken = trio.Event()

    def tell(_peer: bytes, message: Punch, _now: float) -> None:
        said.append(message)
        spoken.set()

    monkeypatch.setattr(node.core, "tell", tell)
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("127.0.0.1", 0))
    async with trio.open_nursery() as nursery:
        await nursery.start(node.run, [node.sock], [udp])
        shell = node._traversal
        shell.seek(peer)
        await trio.testing.wait_all_tasks_blocked()
        shell.heard(Heard(peer, Punch(SECRET, [], "", None, False)))
        with trio.fail_after(5):
            await spoken.wait()
        await trio.sleep(0.1)
        nursery.cancel_scope.cancel()
    theirs = secrets == "the peer's"
    assert [(message.answer, message.secret == SECRET) for message in said] == [(theirs, theirs)]

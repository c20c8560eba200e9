"""The mesh's TCP port answers STUN to anybody, within bounds, and keeps the connection a while."""

import socket
from typing import Any

import pytest
import trio

from mesh.errors import Unavailable
from mesh.link.stun import service
from mesh.link.stun.service import ask
from mesh.nat.answerer import BURST
from mesh.nat.stun import MESSAGE_BYTES_MAX, encode_binding_indication, encode_binding_request

REQUEST = encode_binding_request(b"t" * 12, software="fwnode")


async def connected(node: Any) -> socket.socket:
    stream = await trio.open_tcp_stream("127.0.0.1", node.sock.getsockname()[1])
    sock = socket.socket(fileno=stream.socket.detach())
    sock.setblocking(False)
    return sock


async def ended(sock: socket.socket) -> bytes:
    """What comes until the other side closes."""
    got = b""
    with trio.fail_after(5):
        while True:
            await trio.lowlevel.wait_readable(sock)
            try:
                data = sock.recv(4096)
            except ConnectionResetError:
                return got
            if not data:
                return got
            got += data


async def test_it_says_where_it_sees_the_asker_and_stays(network: Any, listening: Any) -> None:
    async with listening(network.member("first")) as node:
        with await connected(node) as sock:
            with trio.fail_after(2):
                assert await ask(sock) == f"127.0.0.1:{sock.getsockname()[1]}"
            with trio.move_on_after(0.1) as scope:
                await trio.lowlevel.wait_readable(sock)
            assert scope.cancelled_caught, "the connection keeps the mapping alive"
        assert node.refusals.total == 0


async def test_a_question_may_come_in_pieces(network: Any, listening: Any) -> None:
    async with listening(network.member("first")) as node:
        with await connected(node) as sock, trio.fail_after(5):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for at in range(len(REQUEST)):
                sock.send(REQUEST[at : at + 1])
                await trio.lowlevel.checkpoint()
            await trio.lowlevel.wait_readable(sock)
            assert sock.recv(1000)[8:20] == b"t" * 12


async def test_it_is_held_for_so_long_only(
    network: Any, listening: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "HOLD_S", 0.05)
    async with listening(network.member("first")) as node:
        with await connected(node) as sock:
            await ask(sock)
            assert await ended(sock) == b""


async def test_no_more_are_held_than_allowed(
    network: Any, listening: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "HELD_MAX", 1)
    async with listening(network.member("first")) as node:
        with await connected(node) as first, await connected(node) as second:
            await ask(first)
            await ask(second)
            assert await ended(second) == b""


async def test_who_asks_too_much_is_not_answered(network: Any, listening: Any) -> None:
    async with listening(network.member("first")) as node:
        answers = []
        for _ in range(BURST + 5):
            with await connected(node) as sock, trio.fail_after(5):
                try:
                    answers.append(await ask(sock))
                except Unavailable:
                    answers.append("")
        assert BURST <= sum(map(bool, answers)) < len(answers)


@pytest.mark.parametrize(
    "data",
    [
        b"\0" * 20,
        b"\0\1" + (MESSAGE_BYTES_MAX).to_bytes(2, "big") + REQUEST[4:20] + bytes(MESSAGE_BYTES_MAX),
        REQUEST[:2] + b"\0\3" + REQUEST[4:23],
        encode_binding_indication(b"t" * 12),
    ],
    ids=["zeros", "too long", "no multiple of four", "indication"],
)
async def test_what_is_no_question_is_closed(network: Any, listening: Any, data: bytes) -> None:
    async with listening(network.member("first")) as node:
        with await connected(node) as sock:
            sock.send(data)
            assert await ended(sock) == b""


async def test_an_answer_to_another_question_is_not_believed() -> None:
    one, other = socket.socketpair()
    with one, other:
        one.setblocking(False)
        other.send(REQUEST)
        with trio.fail_after(2), pytest.raises(Unavailable):
            await ask(one)

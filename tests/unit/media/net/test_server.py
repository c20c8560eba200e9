"""Connections and listeners on real sockets, with time in the test's hand."""

import contextlib
import os
import socket
import struct
import tempfile
from errno import EMFILE
from typing import Any

import pytest

from media.errors import WireError
from media.net import server
from media.net.server import LINGER_DISCARD_BYTES, LINGER_S, STALL_S, Connection, Listener, bind
from media.net.store import MemoryFiles
from media.net.transport import FileSlice

BIG = os.urandom(1 << 20) * 12  # beyond what the kernel buffers on loopback


@pytest.fixture
def listener(loop: Any, made: Any) -> Listener:
    return Listener(bind("127.0.0.1:0"), made, loop, limit=4, name="test")


@pytest.fixture
def pair(loop: Any, made: Any, listener: Listener, dial: Any) -> tuple[socket.socket, Any]:
    peer = dial(listener.address)
    loop.settle()
    return peer, made[0]


def read_all(loop: Any, peer: socket.socket) -> bytes:
    """Everything until the end, turning the loop meanwhile."""
    peer.setblocking(False)
    data = bytearray()
    while True:
        try:
            chunk = peer.recv(1 << 20)
        except BlockingIOError:
            loop.turn()
            continue
        if not chunk:
            return bytes(data)
        data += chunk


def test_bytes_come_and_go(loop: Any, pair: Any) -> None:
    peer, protocol = pair
    peer.sendall(b"hello")
    loop.settle()
    protocol.transport.send(b"a", bytearray(b"b"), memoryview(b"xcx")[1:2])
    protocol.transport.send(b"")
    protocol.transport.send()
    assert peer.recv(100) == b"abc"
    assert protocol.events == [b"hello"]
    assert protocol.transport.peer_host == "127.0.0.1"
    assert protocol.transport.peer_port == peer.getsockname()[1]
    assert (loop.bytes_in, loop.bytes_out, loop.accepted) == (5, 3, 1)


def test_options_are_inherited_by_accepted_sockets(loop: Any, pair: Any) -> None:
    sock = pair[1].transport._socket
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == STALL_S * 1000
    assert not sock.getblocking()


def test_what_the_kernel_does_not_take_is_queued_in_order(loop: Any, pair: Any) -> None:
    peer, protocol = pair
    protocol.transport.send(BIG)
    queued = protocol.transport.queued_bytes
    assert 0 < queued < len(BIG)
    protocol.transport.send(b"after", b"wards")
    protocol.transport.send(*[b"%d," % number for number in range(3000)])
    tail = b"afterwards" + b"".join(b"%d," % number for number in range(3000))
    assert protocol.transport.queued_bytes == queued + len(tail)
    protocol.transport.close()
    assert read_all(loop, peer) == BIG + tail
    assert protocol.transport.queued_bytes == 0


def test_drained_is_told_once_for_each_queue(loop: Any, pair: Any) -> None:
    peer, protocol = pair
    protocol.act = lambda data: protocol.transport.send(BIG)
    peer.sendall(b"go")
    peer.settimeout(5)
    got = 0
    while got < len(BIG):
        loop.turn(1)
        with contextlib.suppress(BlockingIOError):
            got += len(peer.recv(1 << 20, socket.MSG_DONTWAIT))
    loop.settle()
    assert protocol.events == [b"go", "drained"]
    protocol.transport.send(b"more")
    assert peer.recv(10) == b"more"


def test_files_are_sent_in_order_with_bytes(loop: Any, pair: Any) -> None:
    peer, protocol = pair
    with tempfile.TemporaryFile() as file:
        file.write(b"0123456789" + BIG)
        file.flush()
        part = FileSlice(file.fileno(), 3, len(BIG), file)
        protocol.transport.send_file(part, b"head")
        assert protocol.transport.queued_bytes > 0
        protocol.transport.send(b"between")
        protocol.transport.send_file(FileSlice(file.fileno(), 0, 4, file), b"last")
        protocol.transport.close()
        sent = read_all(loop, peer)
    assert sent == b"head" + (b"3456789" + BIG)[: len(BIG)] + b"between" + b"last" + b"0123"


def test_memory_files_are_sent_after_their_owner_let_go(loop: Any, pair: Any) -> None:
    peer, protocol = pair
    part = MemoryFiles().put([BIG])
    assert part is not None
    protocol.transport.send_file(part, b"head")
    del part
    protocol.transport.close()
    assert read_all(loop, peer) == b"head" + BIG


def test_file_shorter_than_its_slice_aborts(loop: Any, pair: Any) -> None:
    _, protocol = pair
    with tempfile.TemporaryFile() as file:
        file.write(b"short")
        file.flush()
        protocol.transport.send_file(FileSlice(file.fileno(), 0, 100, file))
        loop.settle()
    assert protocol.events == ["closed"]


def test_close_waits_for_the_other_side_and_discards(loop: Any, pair: Any) -> None:
    peer, protocol = pair
    protocol.transport.send(b"bye")
    protocol.transport.close()
    protocol.transport.send(b"ignored")
    peer.sendall(b"still talking")
    loop.settle()
    assert peer.recv(100) == b"bye"
    assert peer.recv(100) == b""
    assert protocol.events == []
    peer.close()
    loop.settle()
    assert protocol.events == ["closed"]
    assert not [pollable for pollable in loop.pollables.values() if isinstance(pollable, Connection)]


def test_lingering_ends_by_time_and_by_amount(
    loop: Any, pair: Any, listener: Any, dial: Any, made: Any
) -> None:
    _, protocol = pair
    protocol.transport.close()
    loop.advance(LINGER_S - 0.1)
    assert protocol.events == []
    loop.advance(0.2)
    assert protocol.events == ["closed"]
    flooder = dial(listener.address)
    loop.settle()
    made[1].transport.close()
    with contextlib.suppress(OSError):
        for _ in range(2 * LINGER_DISCARD_BYTES // 65536):
            flooder.sendall(bytes(65536))
            loop.turn()
    assert made[1].events == ["closed"]


def test_reader_that_takes_nothing_is_dropped_and_counted(loop: Any, pair: Any) -> None:
    _, protocol = pair
    protocol.transport.send(BIG)
    loop.settle()
    loop.advance(STALL_S + 0.1)
    assert protocol.events == ["closed"]
    assert loop.faults[0][0] == "stall"
    assert protocol.transport.queued_bytes == 0


def test_slow_reader_is_not_stalled(loop: Any, pair: Any) -> None:
    peer, protocol = pair
    protocol.transport.send(BIG)
    for _ in range(5):
        loop.advance(STALL_S * 0.9)
        got = 0
        while got < 1 << 21:
            got += len(peer.recv(1 << 20))
            loop.turn(1)
    assert "closed" not in protocol.events
    assert loop.faults == []


def test_queue_has_an_upper_bound(loop: Any, pair: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MAX_QUEUED_BYTES", 3 * len(BIG))
    _, protocol = pair
    for _ in range(5):
        protocol.transport.send(BIG)
    loop.settle()
    assert protocol.events == ["closed"]
    assert loop.faults == [("overflow", "send queue")]


def test_end_of_input_leaves_the_other_direction_open(loop: Any, pair: Any) -> None:
    peer, protocol = pair
    peer.sendall(b"last")
    peer.shutdown(socket.SHUT_WR)
    loop.settle()
    assert protocol.events == [b"last", "eof"]
    protocol.transport.send(b"answer")
    protocol.transport.close()
    loop.settle()
    assert peer.recv(100) == b"answer"
    assert peer.recv(100) == b""
    assert protocol.events == [b"last", "eof", "closed"]


def test_reset_closes(loop: Any, pair: Any) -> None:
    peer, protocol = pair
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()
    loop.settle()
    protocol.transport.send(b"too late")
    assert protocol.events == ["closed"]


def test_reset_is_seen_while_reading_is_paused(loop: Any, pair: Any) -> None:
    peer, protocol = pair
    protocol.transport.pause_reading()
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()
    loop.settle()
    assert protocol.events == ["closed"]


def test_pausing_keeps_bytes_in_the_kernel(loop: Any, pair: Any) -> None:
    peer, protocol = pair
    protocol.transport.pause_reading()
    peer.sendall(b"waiting")
    loop.settle()
    assert protocol.events == []
    protocol.transport.resume_reading()
    loop.settle()
    assert protocol.events == [b"waiting"]


def test_deadlines_replace_one_another(loop: Any, pair: Any) -> None:
    _, protocol = pair
    protocol.transport.wake_at(110.0)
    protocol.transport.wake_at(105.0)
    protocol.transport.wake_at(107.0)
    loop.advance(6.5)
    assert protocol.events == []
    loop.advance(10.0)
    assert protocol.events == [("deadline", 107.0)]
    protocol.transport.wake_at(120.0)
    protocol.transport.wake_at(None)
    loop.advance(100.0)
    assert protocol.events == [("deadline", 107.0)]


def test_moving_a_deadline_later_costs_no_timer(loop: Any, pair: Any) -> None:
    _, protocol = pair
    protocol.transport.wake_at(110.0)
    before = loop.timers.mark()
    for number in range(1000):
        protocol.transport.wake_at(111.0 + number)
    assert loop.timers.mark() == before


@pytest.mark.parametrize(("error", "kind"), [(WireError("bad"), "remote"), (KeyError("x"), "bug")])
def test_errors_end_one_connection_only(
    loop: Any, pair: Any, listener: Any, dial: Any, made: Any, error: Exception, kind: str
) -> None:
    peer, protocol = pair
    other = dial(listener.address)

    def fail(data: bytes) -> None:
        raise error

    protocol.act = fail
    peer.sendall(b"x")
    other.sendall(b"fine")
    loop.settle()
    assert [name for name, _ in loop.faults] == [kind]
    assert protocol.events == [b"x", "closed"]
    assert made[1].events == [b"fine"]


def test_abort_in_a_callback_is_reported_afterwards(loop: Any, pair: Any) -> None:
    peer, protocol = pair
    seen: list[list[Any]] = []

    def leave(data: bytes) -> None:
        protocol.transport.abort()
        seen.append(list(protocol.events))

    protocol.act = leave
    peer.sendall(b"x")
    loop.settle()
    assert seen == [[b"x"]]
    assert protocol.events == [b"x", "closed"]
    protocol.transport.abort()
    protocol.transport.close()
    protocol.transport.wake_at(101.0)
    loop.advance(50.0)
    assert protocol.events == [b"x", "closed"]


def test_factory_that_fails_refuses_the_connection(loop: Any, dial: Any) -> None:
    def fail(transport: Any, now: float) -> Any:
        raise WireError("go away")

    listener = Listener(bind("127.0.0.1:0"), fail, loop, limit=4, name="test")
    peer = dial(listener.address)
    loop.settle()
    assert peer.recv(1) == b""
    assert listener.connections == 0


def test_limit_of_a_listener(loop: Any, listener: Any, dial: Any, made: Any) -> None:
    peers = [dial(listener.address) for _ in range(6)]
    loop.settle()
    assert (len(made), listener.connections, loop.refused) == (4, 4, 2)
    assert peers[5].recv(1) == b""
    made[0].transport.abort()
    loop.settle()
    dial(listener.address)
    loop.settle()
    assert (len(made), listener.connections) == (5, 4)


def test_limit_of_an_address(loop: Any, listener: Any, dial: Any, made: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(server, "PER_ADDRESS_LIMIT", 1)
    monkeypatch.setattr(server, "counting_key", lambda host: host)
    first = dial(listener.address)
    second = dial(listener.address)
    loop.settle()
    assert (len(made), loop.refused) == (1, 1)
    assert second.recv(1) == b""
    made[0].transport.close()
    first.close()
    loop.settle()
    assert listener._by_address == {}


def test_out_of_descriptors_pauses_accepting(loop: Any, listener: Any, dial: Any, made: Any) -> None:
    real = listener._socket

    class Full:
        fileno = real.fileno
        close = real.close

        def accept(self) -> None:
            raise OSError(EMFILE, "too many open files")

    listener._socket = Full()
    dial(listener.address)
    loop.settle()
    assert loop.faults == [("accept", "[Errno 24] too many open files")]
    listener._socket = real
    loop.settle()
    assert made == []
    loop.advance(server.ACCEPT_RETRY_S)
    loop.settle()
    assert len(made) == 1


def test_closed_listener_keeps_its_connections(loop: Any, listener: Any, pair: Any, dial: Any) -> None:
    peer, protocol = pair
    listener.close()
    listener.close()
    peer.sendall(b"still here")
    loop.settle()
    assert protocol.events == [b"still here"]
    with pytest.raises(OSError, match="refused"):
        dial(listener.address)


def test_dual_stack(loop: Any, made: Any, dial: Any) -> None:
    try:
        listener = Listener(bind("[::]:0"), made, loop, limit=4, name="test")
    except OSError:
        pytest.skip("no IPv6 here")
    port = listener.address.rpartition(":")[2]
    dial(f"127.0.0.1:{port}")
    dial(f"[::1]:{port}")
    loop.settle()
    assert sorted(protocol.transport.peer_host for protocol in made) == ["127.0.0.1", "::1"]


def test_addresses_that_cannot_be_bound(listener: Any) -> None:
    with pytest.raises(OSError, match=f"cannot listen on {listener.address}: Address already in use"):
        bind(listener.address)
    with pytest.raises(OSError, match=r"cannot listen on nonsense: .*expected host:port"):
        bind("nonsense")
    with pytest.raises(OSError, match=r"cannot listen on 192\.0\.2\.1:1"):
        bind("192.0.2.1:1")

"""The mesh's TCP port: takes connections, sends strangers away cheaply, hands members on."""

import errno
import socket
from collections.abc import Awaitable, Callable, Sequence

import trio

from mesh.address import group_of, show_host
from mesh.errors import RemoteError, Unavailable
from mesh.link.connection.service import Credentials, LinkRefused, SecureConnection, secure
from mesh.link.limits import ConnectionLimits
from mesh.link.model import TOKEN_BYTES
from mesh.link.refusals import Refusals
from mesh.link.stun.service import StreamAnswerer
from mesh.model import NodeId

BACKLOG = 512  # connections that the kernel holds while one turn of the loop lasts
ACCEPTS_PER_TURN = 32  # so that a flood leaves the loop to others
FIRST_BYTES_S = 5.0  # a second byte of patience: a dialler speaks at once
FULL_S = 0.1  # out of descriptors: wait for some to be closed
FULL = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
STUN_REQUEST = 0x00  # RFC 8489 5: the first byte of a Binding request
TLS_HANDSHAKE = 0x16  # RFC 8446 5.1: the first byte of a client's first record
TOKEN_MAGIC = b"FWR1"  # begins a relayed connection: then a token, then another node's TLS
TOKEN_PREAMBLE_BYTES = len(TOKEN_MAGIC) + TOKEN_BYTES
NO_KNOCK = "it did not knock: not a node of fwnode"
STUN = b""  # what stands for a question about the asker's address, where a token would

OnConnection = Callable[[SecureConnection], Awaitable[None]]
OnToken = Callable[[socket.socket, bytes], Awaitable[None]]


async def serve_links(
    sockets: Sequence[socket.socket],
    credentials: Credentials,
    on_connection: OnConnection,
    on_token: OnToken,
    refusals: Refusals,
    *,
    on_fault: Callable[[Exception], None] | None = None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Listen on bound TCP sockets, which it takes, until cancelled. Anybody's STUN is answered.

    `on_connection` runs in a task of its own for each member's connection, which is closed when it returns;
    what it raises of a lost connection or a peer's fault ends that connection only; anything else goes to
    `on_fault`, without one to the caller. `on_token` gets a raw,
    non-blocking socket that sent the preamble of a relayed connection, and its token; the socket is its own.
    """
    server = _Server(credentials, on_connection, on_token, refusals, on_fault)
    try:
        async with trio.open_nursery() as nursery:
            for sock in sockets:
                sock.setblocking(False)
                sock.listen(BACKLOG)
                nursery.start_soon(server.accept, sock, nursery)
            task_status.started()
    finally:
        for sock in sockets:
            sock.close()


class _Server:
    def __init__(
        self,
        credentials: Credentials,
        on_connection: OnConnection,
        on_token: OnToken,
        refusals: Refusals,
        on_fault: Callable[[Exception], None] | None,
    ) -> None:
        self._credentials = credentials
        self._on_connection = on_connection
        self._on_token = on_token
        self._refusals = refusals
        self._on_fault = on_fault
        self._limits = ConnectionLimits()
        self._stun = StreamAnswerer(trio.current_time())

    async def accept(self, listener: socket.socket, nursery: trio.Nursery) -> None:
        """Take connections from one socket."""
        while True:
            await trio.lowlevel.wait_readable(listener)
            for _ in range(ACCEPTS_PER_TURN):
                try:
                    sock, address = listener.accept()
                except BlockingIOError:
                    break
                except OSError as error:
                    if error.errno in FULL:
                        await trio.sleep(FULL_S)
                        break
                    continue  # it went away before it was taken
                self._admit(sock, show_host(address), nursery)

    def _admit(self, sock: socket.socket, host: str, nursery: trio.Nursery) -> None:
        reason = self._limits.admit(group_of(host), trio.current_time())
        if reason:
            sock.close()
            self._note(host, LinkRefused(reason, by_us=True))
            return
        nursery.start_soon(self._serve, sock, host)

    async def _serve(self, sock: socket.socket, host: str) -> None:
        sock.setblocking(False)
        member = False
        try:
            found = await self._greet(sock, host)
            member = isinstance(found, SecureConnection)
        except BaseException:
            sock.close()
            raise
        finally:
            self._limits.done(group_of(host), trio.current_time(), member=member)
        if isinstance(found, SecureConnection):
            await self._hand_on(found, host)
        elif found == STUN:
            with sock:
                await self._stun.hold(sock)
        elif found is not None:
            await self._guard(self._on_token(sock, found), host, None)

    async def _greet(self, sock: socket.socket, host: str) -> SecureConnection | bytes | None:
        """A member's connection, a token, STUN, or nothing: then the socket is closed."""
        try:
            token = await _first_bytes(sock)
            if token == STUN and await self._answer_stun(sock):
                return STUN
            if token == STUN:
                raise LinkRefused(NO_KNOCK, by_us=True)
            if token is not None:
                return token
            return await secure(sock, self._credentials, dialler=False)
        except LinkRefused as refused:
            self._note(host, refused)
        except (Unavailable, OSError):
            pass  # it left or fell silent, as scanners do: no refusal of either side
        sock.close()
        return None

    async def _answer_stun(self, sock: socket.socket) -> bool:
        with trio.move_on_after(FIRST_BYTES_S):
            return await self._stun.answer(sock)
        return False

    async def _hand_on(self, connection: SecureConnection, host: str) -> None:
        try:
            await self._guard(self._on_connection(connection), host, connection.peer.node_id)
        finally:
            with trio.CancelScope(shield=True):
                await connection.aclose()

    async def _guard(self, serving: Awaitable[None], host: str, node_id: NodeId | None) -> None:
        """One connection's fault is its own."""
        try:
            await serving
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        except* RemoteError as group:
            reason = _first(group)
            self._note(host, LinkRefused(reason, by_us=True, node_id=node_id))
        except* Exception as group:
            if self._on_fault is None:
                raise
            self._on_fault(group)

    def _note(self, host: str, refused: LinkRefused) -> None:
        if refused.node_id == self._credentials.node_id:
            return  # this node itself, by a seed that leads here
        self._refusals.note(host, refused.node_id, refused.reason, refused.by_us, self._credentials.unix_s())


def _first(group: BaseExceptionGroup[RemoteError]) -> str:
    while True:
        error = group.exceptions[0]
        if not isinstance(error, BaseExceptionGroup):
            return str(error)
        group = error


async def _first_bytes(sock: socket.socket) -> bytes | None:
    """A connection's token, STUN, None when TLS follows. Raises LinkRefused otherwise; Unavailable."""
    with trio.move_on_after(FIRST_BYTES_S):
        first = await _receive(sock, 1, socket.MSG_PEEK)
        if first[0] == TLS_HANDSHAKE:
            return None
        if first[0] == STUN_REQUEST:
            return STUN
        if first[0] != TOKEN_MAGIC[0]:
            raise LinkRefused(NO_KNOCK, by_us=True)
        preamble = b""
        while len(preamble) < TOKEN_PREAMBLE_BYTES:
            preamble += await _receive(sock, TOKEN_PREAMBLE_BYTES - len(preamble))
        if not preamble.startswith(TOKEN_MAGIC):
            raise LinkRefused(NO_KNOCK, by_us=True)
        return preamble[len(TOKEN_MAGIC) :]
    raise Unavailable("nothing came", FULL_S)


async def _receive(sock: socket.socket, size: int, flags: int = 0) -> bytes:
    while True:
        try:
            data = sock.recv(size, flags)
        except BlockingIOError:
            await trio.lowlevel.wait_readable(sock)
            continue
        if not data:
            raise Unavailable("closed by the other side", FULL_S)
        return data

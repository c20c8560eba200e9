"""One connection between two members: TLS 1.3 on a socket, and the greeting that says who they are.

TLS works on the socket itself (`ssl.SSLSocket`, non-blocking), so that media is encrypted from the caller's
buffer and decrypted into it, without the two copies of a memory BIO. One thread runs it all, so one task may
send while another receives.
"""

import os
import secrets
import socket
import ssl
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import trio

from mesh.address import show_address
from mesh.errors import MeshError, Refused, Unavailable, WireError
from mesh.identity.claim import Chain, parse_chain_untrusted
from mesh.identity.key import SecretKey
from mesh.identity.membership import Checked, Membership
from mesh.link import greeting
from mesh.link.certificate import make_certificate, node_of_untrusted
from mesh.link.hello import (
    ARGUMENT_BYTES_MAX,
    NONCE_BYTES,
    TEXT_LENGTH_MAX,
    ClientHello,
    ClientRefusal,
    HelloReader,
    ServerHello,
    Verdict,
    pack,
    parse_answer_untrusted,
    parse_verdict_untrusted,
    refusal,
    verdict,
)
from mesh.link.knock import NONCE_BYTES as KNOCK_NONCE_BYTES
from mesh.link.knock import OtherVersion, check_knock_untrusted, make_knock
from mesh.link.model import CONTROL, PROTOCOL_VERSION, Peer
from mesh.link.text import one_line
from mesh.model import NodeId

HANDSHAKE_S = 10.0  # four round trips of the slowest home link, with retransmissions
RETRY_S = 5.0
CLOSE_S = 1.0  # for the last record and the goodbye of TLS to fit the socket's buffer
# A write that did not fit must be repeated whole: small enough that one does not hold up the loop for more
# than half a millisecond, large enough that the loop's turn costs little beside it.
SEND_BYTES = 256 << 10
RECORD_BYTES = 16 << 10  # RFC 8446 5.1: what one read gives at most
SENDS_PER_TURN = 16  # that went at once before other tasks have their turn: below a millisecond of small ones


class LinkRefused(Refused):
    """No link: one side does not want the other. `by_us` says which, `reason` what that side said."""

    def __init__(self, reason: str, *, by_us: bool, node_id: NodeId | None = None) -> None:
        super().__init__(reason if by_us else f"the other node refused: {reason}")
        self.reason = reason
        self.by_us = by_us
        self.node_id = node_id  # who it was, when that was proven or shown before


class _Socket(ssl.SSLSocket):
    """A socket that keeps why its server name was refused, which `ssl` does not pass on."""

    refusal = ""


@dataclass(slots=True)
class Traffic:
    """Bytes of all connections of one node that run on a socket of their own, since the start."""

    bytes_in: int = 0
    bytes_out: int = 0


class Credentials:
    """What this node shows of itself, and whom it believes. The membership is read as it is at each use."""

    def __init__(
        self, key: SecretKey, membership: Membership, program: str, unix_s: Callable[[], float]
    ) -> None:
        """`program` is shown to peers: "fwnode 0.1.0". `unix_s` gives the wall clock."""
        self.key = key
        self.membership = membership
        self.program = one_line(program, TEXT_LENGTH_MAX)
        self.unix_s = unix_s
        self.traffic = Traffic()
        self._client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._client.check_hostname = False
        self._client.verify_mode = ssl.CERT_NONE  # the key in the certificate is checked instead
        self._client.minimum_version = ssl.TLSVersion.TLSv1_3
        self._server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._server.minimum_version = ssl.TLSVersion.TLSv1_3
        self._server.num_tickets = 0  # nothing is resumed: each connection shows a membership that holds now
        self._server.sslsocket_class = _Socket
        self._server.sni_callback = self._on_server_name
        _load(self._server, make_certificate(key))

    @property
    def node_id(self) -> NodeId:
        """This node."""
        return self.key.node_id

    def check(self, chain: Chain, shown_by: NodeId) -> Checked:
        """Whom the chain makes a member, now. Raises Refused, WireError, Unavailable; text for people."""
        if chain.node_id != shown_by:
            raise Refused("it shows the claim of another node")
        if shown_by == self.node_id:
            raise Refused("it is this node itself")
        return self.membership.check(chain, self.unix_s())

    def wrap(self, sock: socket.socket, *, dialler: bool) -> ssl.SSLSocket:
        """TLS over a connected socket, which it takes. Raises OSError."""
        if not dialler:
            return self._server.wrap_socket(
                sock, server_side=True, do_handshake_on_connect=False, suppress_ragged_eofs=False
            )
        knock = make_knock(self.membership.network, secrets.token_bytes(KNOCK_NONCE_BYTES))
        return self._client.wrap_socket(
            sock, server_hostname=knock, do_handshake_on_connect=False, suppress_ragged_eofs=False
        )

    def _on_server_name(self, sock: object, name: str | None, _context: ssl.SSLContext) -> int | None:
        try:
            check_knock_untrusted(name, self.membership.network)
        except WireError as error:
            if isinstance(sock, _Socket):
                sock.refusal = str(error)
            if isinstance(error, OtherVersion):
                return ssl.AlertDescription.ALERT_DESCRIPTION_PROTOCOL_VERSION
            return ssl.AlertDescription.ALERT_DESCRIPTION_ACCESS_DENIED
        return None


def _load(context: ssl.SSLContext, pem: bytes) -> None:
    # `ssl` reads keys from files only: one that nobody else may read, gone at once.
    with tempfile.NamedTemporaryFile() as file:
        file.write(pem)
        file.flush()
        context.load_cert_chain(file.name)


class SecureConnection:
    """An authenticated, encrypted stream of bytes to a member.

    One task may send while one other receives. A send that was cancelled leaves half a record behind:
    nothing can be sent after it. The end of the stream is authenticated: a connection that was cut is broken.
    """

    def __init__(
        self, sock: ssl.SSLSocket, peer: Peer, purpose: str, argument: bytes, traffic: Traffic
    ) -> None:
        """For `secure`, after the greeting. `traffic` counts along."""
        self.peer = peer
        self.purpose = purpose
        self.argument = argument
        self.bytes_in = 0
        self.bytes_out = 0
        self._sock = sock
        self._traffic = traffic
        self._closed = False
        self._broken = False
        self._sending = False
        self._sends = 0  # since other tasks had their turn
        self._dry = False  # all that had arrived was read

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of `data`. Raises BrokenResourceError, ClosedResourceError; BusyResourceError for two."""
        if self._sending:
            raise trio.BusyResourceError("another task is sending on this connection")
        self._require()
        await self._checkpoint()
        self._sending = True
        whole = False
        try:
            with memoryview(data).cast("B") as view:
                await self._send(view)
            whole = True
        finally:
            self._sending = False
            self._broken = self._broken or not whole

    async def _checkpoint(self) -> None:
        """A turn of the loop costs as much as to send one frame: most sends that need not wait do without."""
        self._sends += 1
        if self._sends < SENDS_PER_TURN:
            await trio.lowlevel.checkpoint_if_cancelled()
        else:
            self._sends = 0
            await trio.lowlevel.checkpoint()

    async def _send(self, view: memoryview) -> None:
        at = 0
        while at < len(view):
            self._require()
            try:
                sent = self._sock.send(view[at : at + SEND_BYTES])
            except ssl.SSLWantWriteError:
                await self._wait(trio.lowlevel.wait_writable)
                continue
            except OSError as error:
                raise self._lost(error) from None
            at += sent
            self.bytes_out += sent
            self._traffic.bytes_out += sent
            if at < len(view):
                await trio.lowlevel.checkpoint()

    async def receive_some(self, n: int = 65536) -> bytes:
        """At least one byte and at most `n`; b"" at the end. Raises as `send_all`."""
        await self._turn_to_read()
        parts: list[bytes] = []
        while n > 0:
            data = self._read(size := min(n, RECORD_BYTES))
            if data is None:
                if parts:
                    break
                await self._wait(trio.lowlevel.wait_readable)
                continue
            if not data:
                break
            parts.append(data)
            n -= len(data)
            if self._is_dry(len(data), size):
                break
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def receive_into(self, buffer: bytearray | memoryview) -> int:
        """Fill as much of `buffer` as has arrived, at least one byte; 0 at the end. Raises as `send_all`."""
        await self._turn_to_read()
        at = 0
        with memoryview(buffer).cast("B") as view:
            while at < len(view):
                size = min(len(view) - at, RECORD_BYTES)
                count = self._read_into(view[at : at + size])
                if count is None:
                    if at:
                        break
                    await self._wait(trio.lowlevel.wait_readable)
                    continue
                if not count:
                    break
                at += count
                if self._is_dry(count, size):
                    break
        return at

    async def _turn_to_read(self) -> None:
        """Other tasks have their turn, until something arrives when nothing is there."""
        self._require()
        if self._dry:
            self._dry = False
            await trio.lowlevel.wait_readable(self._sock)
        else:
            await trio.lowlevel.checkpoint()

    def _is_dry(self, count: int, size: int) -> bool:
        """Whether a read emptied a record that was not full: most likely the last one.

        TLS reads no further than it must, so what else has arrived is still in the socket and wakes who
        waits for it. To ask for it at once would cost an exception for each frame of media.
        """
        self._dry = count < size and not self._sock.pending()
        return self._dry

    def hand_over(self, purpose: str | None = None, argument: bytes | None = None) -> "SecureConnection":
        """The same connection as another object, and perhaps for another purpose; this one is closed."""
        self._require()
        taken = SecureConnection(
            self._sock,
            self.peer,
            self.purpose if purpose is None else purpose,
            self.argument if argument is None else argument,
            self._traffic,
        )
        self._closed = True
        return taken

    async def aclose(self) -> None:
        """Say goodbye to the other side, as far as the socket takes it at once, and close."""
        if not self._closed and not self._broken and not self._sending:
            try:
                with trio.move_on_after(CLOSE_S):
                    await self._end()
            except (trio.ClosedResourceError, trio.BusyResourceError):
                pass  # another task closed it, or began to send
        self.close()
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        """Close at once. A task that sends or receives gets ClosedResourceError. May be repeated."""
        if self._closed:
            return
        self._closed = True
        trio.lowlevel.notify_closing(self._sock)
        self._sock.close()

    async def _end(self) -> None:
        while not self._closed:
            try:
                self._sock.unwrap()
            except ssl.SSLWantWriteError:
                await self._wait(trio.lowlevel.wait_writable)
            except (OSError, ValueError):
                return  # SSLWantReadError: ours is sent, theirs is not waited for
            else:
                return

    def _read(self, size: int) -> bytes | None:
        """What arrived, b"" at the end, None when nothing has."""
        self._require()
        try:
            data = self._sock.read(size)
        except ssl.SSLWantReadError:
            return None
        except ssl.SSLZeroReturnError:
            return b""
        except OSError as error:
            raise self._lost(error) from None
        self.bytes_in += len(data)
        self._traffic.bytes_in += len(data)
        return data

    def _read_into(self, view: memoryview) -> int | None:
        self._require()
        try:
            count = self._sock.recv_into(view)
        except ssl.SSLWantReadError:
            return None
        except ssl.SSLZeroReturnError:
            return 0
        except OSError as error:
            raise self._lost(error) from None
        self.bytes_in += count
        self._traffic.bytes_in += count
        return count

    def _require(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError("this connection was closed here")
        if self._broken:
            raise trio.BrokenResourceError("this connection is broken")

    def _lost(self, error: OSError) -> trio.BrokenResourceError:
        self._broken = True
        return trio.BrokenResourceError(_why(error))

    async def _wait(self, ready: Callable[[Any], Any]) -> None:
        await ready(self._sock)


async def secure(
    sock: socket.socket,
    credentials: Credentials,
    *,
    dialler: bool,
    expect: NodeId | None = None,
    purpose: str = CONTROL,
    argument: bytes = b"",
    relayed: bool = False,
) -> SecureConnection:
    """Make a connection of a connected socket, which it takes: closed when this raises.

    The dialler says what the connection is for. `relayed`: the socket's addresses are a relay's, not the
    peer's. Raises LinkRefused; Unavailable when the other side goes away or is silent for HANDSHAKE_S.
    """
    assert len(purpose) <= TEXT_LENGTH_MAX
    assert len(argument) <= ARGUMENT_BYTES_MAX
    sock.setblocking(False)
    greeting = _Greeting(credentials, relayed)
    try:
        greeting.open(sock, dialler=dialler)
        with trio.fail_after(HANDSHAKE_S):
            if dialler:
                return await greeting.dial(expect, purpose, argument)
            return await greeting.answer()
    except trio.TooSlowError:
        greeting.close(sock)
        raise Unavailable("the other side did not finish the handshake in time", RETRY_S) from None
    except OSError as error:
        greeting.close(sock)
        raise Unavailable(f"the connection was lost in the handshake: {_why(error)}", RETRY_S) from None
    except BaseException:
        greeting.close(sock)
        raise


class _Greeting:
    """The handshake on one socket, until it is a SecureConnection."""

    def __init__(self, credentials: Credentials, relayed: bool) -> None:
        self._own = credentials
        self._relayed = relayed
        self._remote = ""
        self._sock: ssl.SSLSocket

    def open(self, sock: socket.socket, *, dialler: bool) -> None:
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._remote = "" if self._relayed else show_address(sock.getpeername())
        self._sock = self._own.wrap(sock, dialler=dialler)

    def close(self, sock: socket.socket) -> None:
        sock.close()
        if hasattr(self, "_sock"):
            self._sock.close()

    async def dial(self, expect: NodeId | None, purpose: str, argument: bytes) -> SecureConnection:
        began = trio.current_time()
        server = await self._start_as_client()
        took_s = trio.current_time() - began
        try:
            hello, checked = greeting.believe(self._own, await self._receive(), server, expect)
        except (Refused, WireError, Unavailable) as error:
            await self._tell(refusal(str(error)))
            raise LinkRefused(str(error), by_us=True, node_id=server) from None
        answer = greeting.client_hello(self._own, hello, server, purpose, argument, self._remote)
        began = trio.current_time()
        await self._send(answer)
        said = await self._hear_verdict(server)
        if not said.ok:
            raise LinkRefused(said.reason, by_us=False, node_id=server)
        took_s = min(took_s, trio.current_time() - began)
        peer = greeting.peer_of(
            checked, hello.program, hello.observed, remote=self._remote, round_trip_s=took_s, dialled=True
        )
        return SecureConnection(self._sock, peer, purpose, argument, self._own.traffic)

    async def answer(self) -> SecureConnection:
        await self._start_as_server()
        nonce = secrets.token_bytes(NONCE_BYTES)
        began = trio.current_time()
        await self._send(greeting.server_hello(self._own, nonce, self._remote))
        try:
            answer = parse_answer_untrusted(await self._receive())
        except WireError as error:
            await self._refuse(error, None)
        took_s = trio.current_time() - began
        if isinstance(answer, ClientRefusal):
            raise LinkRefused(answer.reason, by_us=False)
        shown: NodeId | None = None
        try:
            chain = parse_chain_untrusted(answer.chain)
            shown = chain.node_id
            checked = greeting.prove(self._own, answer, nonce, chain)
        except (Refused, WireError, Unavailable) as error:
            await self._refuse(error, shown)
        await self._send(verdict(""))
        peer = greeting.peer_of(
            checked, answer.program, answer.observed, remote=self._remote, round_trip_s=took_s, dialled=False
        )
        return SecureConnection(self._sock, peer, answer.purpose, answer.argument, self._own.traffic)

    async def _start_as_client(self) -> NodeId:
        """TLS. The key that the server has proven."""
        try:
            await self._retry(self._sock.do_handshake)
            return node_of_untrusted(self._sock.getpeercert(binary_form=True))
        except (ssl.SSLEOFError, ssl.SSLSyscallError, ssl.SSLZeroReturnError):
            raise
        except ssl.SSLError as error:
            if error.reason == "TLSV1_ALERT_ACCESS_DENIED":
                raise LinkRefused(
                    "it is of another network, or no node that this one may know", by_us=False
                ) from None
            if error.reason == "TLSV1_ALERT_PROTOCOL_VERSION":
                raise LinkRefused(
                    "it speaks another version of the mesh's protocol than this node's "
                    f"{PROTOCOL_VERSION}: update the older",
                    by_us=False,
                ) from None
            raise LinkRefused(f"it is no node of fwnode: {_why(error)}", by_us=True) from None
        except WireError as error:
            raise LinkRefused(str(error), by_us=True) from None

    async def _start_as_server(self) -> None:
        try:
            await self._retry(self._sock.do_handshake)
        except (ssl.SSLEOFError, ssl.SSLSyscallError, ssl.SSLZeroReturnError):
            raise
        except ssl.SSLError as error:
            refused = getattr(self._sock, "refusal", "") or f"it is no node of fwnode: {_why(error)}"
            raise LinkRefused(refused, by_us=True) from None

    async def _refuse(self, error: MeshError, node_id: NodeId | None) -> None:
        await self._tell(verdict(str(error)))
        raise LinkRefused(str(error), by_us=True, node_id=node_id)

    async def _hear_verdict(self, server: NodeId) -> Verdict:
        try:
            return parse_verdict_untrusted(await self._receive())
        except WireError as error:
            raise LinkRefused(str(error), by_us=True, node_id=server) from None

    async def _send(self, message: ServerHello | ClientHello | ClientRefusal | Verdict) -> None:
        data = pack(message)
        await self._retry(lambda: self._sock.send(data))  # at most one record, so all of it or nothing

    async def _tell(self, message: ClientRefusal | Verdict) -> None:
        try:
            await self._send(message)
        except OSError:
            pass  # it left without waiting for the reason

    async def _receive(self) -> bytes:
        reader = HelloReader()
        while True:
            data = await self._retry(lambda: self._sock.recv(reader.wanted))
            if not data:
                raise ssl.SSLEOFError(ssl.SSL_ERROR_EOF, "closed by the other side")
            message = reader.feed(data)
            if message is not None:
                return message

    async def _retry(self, step: Callable[[], Any]) -> Any:
        while True:
            try:
                return step()
            except ssl.SSLWantReadError:
                await trio.lowlevel.wait_readable(self._sock)
            except ssl.SSLWantWriteError:
                await trio.lowlevel.wait_writable(self._sock)


def _why(error: OSError) -> str:
    """A few words on what the operating system or TLS says."""
    if isinstance(error, ssl.SSLError):
        reason = error.reason or str(error.args[-1])
        return reason.replace("_", " ").lower()
    return os.strerror(error.errno) if error.errno else str(error)

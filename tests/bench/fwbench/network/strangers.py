"""A node's door, and who comes to it without being a member."""

import secrets
import socket
from collections.abc import Iterator
from ssl import SSLSocket

import trio

from fwbench.load.control import Poller, Result
from fwbench.load.session import PATIENCE_S
from fwbench.network import members
from fwbench.network.bulk import bound, client_tls, no_token
from fwbench.network.specs import HOST, STRANGERS, DoorSpec, StrangerSpec
from mesh.identity.claim import make_chain, sign_statement
from mesh.identity.invite import parse_invite_untrusted
from mesh.link import limits
from mesh.link.certificate import node_of_untrusted
from mesh.link.connection.service import SecureConnection
from mesh.link.hello import ClientHello, HelloReader, challenge, pack, parse_server_hello_untrusted
from mesh.link.knock import NONCE_BYTES, make_knock
from mesh.link.refusals import Refusals
from mesh.link.server import serve_links

_UNLIMITED = 10**9
_GARBAGE = b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n"


class Door:
    """Refuses; a member's connection would be a fault."""

    def __init__(self, spec: DoorSpec) -> None:
        self._spec = spec
        self._refusals = Refusals()
        self._before = 0

    async def run(self, *, task_status: trio.TaskStatus[Result]) -> None:
        if not self._spec.limited:  # or nearly all would be turned away by their number alone
            limits.BURST = _UNLIMITED
        sock = bound()
        own = members.credentials(self._spec.invite, "door")
        async with trio.open_nursery() as nursery:
            await nursery.start(serve_links, [sock], own, _let_in, no_token, self._refusals)
            task_status.started({"port": float(sock.getsockname()[1])})

    def begin(self) -> None:
        self._before = self._refusals.total

    def end(self) -> Result:
        return {"refused": float(self._refusals.total - self._before)}


async def _let_in(connection: SecureConnection) -> None:
    raise AssertionError(f"{connection.peer.name} is no member")


class Stranger:
    """A `fwbench.load.control.Load`: one connection after the other, each until it is refused."""

    def __init__(self, spec: StrangerSpec) -> None:
        assert spec.kind in STRANGERS
        self._kind = spec.kind
        self._address = (HOST, spec.port)
        self._tls = client_tls()
        self._key = members.new_key()
        self._network = parse_invite_untrusted(spec.invite).network
        self._chain = self._forged(spec.invite)
        self._came = 0
        self._running = False

    def connect(self, poller: Poller) -> Iterator[None]:
        self._come()
        yield

    def tick(self, now: float) -> float:
        if not self._running:
            return 1.0
        self._come()
        self._came += 1
        return 0.0

    def begin(self, now: float) -> None:
        self._came = 0
        self._running = True

    def end(self, now: float) -> Result:
        self._running = False
        return {"came": float(self._came)}

    def _forged(self, invite: str) -> bytes:
        """A claim of the right network that its owner did not sign."""
        claim = members.join(invite, self._key, "stranger").claim
        return make_chain(self._network, (sign_statement(self._network, claim, self._key),)).data

    def _come(self) -> None:
        with socket.create_connection(self._address, PATIENCE_S) as sock:
            try:
                self._knock(sock)
            except OSError:
                return  # refused in the middle of TLS, or closed at once
        raise AssertionError("a stranger was let in")

    def _knock(self, sock: socket.socket) -> None:
        """Raises OSError when it is refused."""
        if self._kind in ("garbage", "too fast"):
            sock.sendall(_GARBAGE)
            _refused(sock.recv(1))
        network = self._network if self._kind == "no member" else bytes(reversed(self._network))
        knock = make_knock(network, secrets.token_bytes(NONCE_BYTES))
        name = "stranger.example" if self._kind == "no knock" else knock
        with self._tls.wrap_socket(sock, server_hostname=name) as secure:
            self._claim(secure)

    def _claim(self, sock: SSLSocket) -> None:
        reader = HelloReader()
        message = None
        while message is None:
            message = reader.feed(_refused(sock.recv(reader.wanted)))
        nonce = parse_server_hello_untrusted(message).nonce
        server = node_of_untrusted(sock.getpeercert(binary_form=True))
        signature = self._key.sign(challenge(self._network, nonce, self._key.node_id, server))
        sock.sendall(pack(ClientHello(members.PROGRAM, self._chain, signature, "", b"", "")))
        while _refused(sock.recv(1024)):
            pass  # the verdict, then the end


def _refused(data: bytes) -> bytes:
    """What came. Raises ConnectionError when the door was closed."""
    if not data:
        raise ConnectionError("refused")
    return data

"""What each side of the greeting checks and says, whatever carries it. Pure; `hello` has the messages."""

from typing import Protocol

from mesh.errors import Refused
from mesh.identity.claim import Chain, parse_chain_untrusted
from mesh.identity.key import SecretKey, verify
from mesh.identity.membership import Checked, Membership
from mesh.link.hello import (
    TEXT_LENGTH_MAX,
    ClientHello,
    ServerHello,
    challenge,
    parse_server_hello_untrusted,
)
from mesh.link.model import PROTOCOL_VERSION, Peer
from mesh.model import NodeId, short


class Own(Protocol):
    """What this node shows of itself, and whom it believes."""

    @property
    def key(self) -> SecretKey: ...
    @property
    def membership(self) -> Membership: ...
    @property
    def program(self) -> str: ...
    @property
    def node_id(self) -> NodeId: ...

    def check(self, chain: Chain, shown_by: NodeId) -> Checked:
        """Whom the chain makes a member, now. Raises Refused, WireError, Unavailable; text for people."""
        ...


def server_hello(own: Own, nonce: bytes, remote: str) -> ServerHello:
    """The server's first words to a client at `remote`."""
    return ServerHello(
        PROTOCOL_VERSION, own.program, own.membership.own.data, nonce, remote[:TEXT_LENGTH_MAX]
    )


def believe(own: Own, data: bytes, server: NodeId, expect: NodeId | None) -> tuple[ServerHello, Checked]:
    """The server's greeting, which has proven the key `server`. Raises Refused, WireError, Unavailable."""
    hello = parse_server_hello_untrusted(data)
    if expect is not None and server != expect:
        raise Refused(f"it is the node {short(server)}, not {short(expect)} that was expected there")
    if hello.version != PROTOCOL_VERSION:
        raise Refused(
            f"it speaks version {hello.version} of the mesh's protocol, this node {PROTOCOL_VERSION}: "
            "update the older"
        )
    return hello, own.check(parse_chain_untrusted(hello.chain), server)


def client_hello(
    own: Own, hello: ServerHello, server: NodeId, purpose: str, argument: bytes, remote: str
) -> ClientHello:
    """The client's answer: its chain, and proof that it has the key."""
    signature = own.key.sign(challenge(own.membership.network, hello.nonce, own.node_id, server))
    chain = own.membership.own.data
    return ClientHello(own.program, chain, signature, purpose, argument, remote[:TEXT_LENGTH_MAX])


def prove(own: Own, answer: ClientHello, nonce: bytes, chain: Chain) -> Checked:
    """Whom the client's answer, with its chain, proves it to be. Raises Refused, WireError, Unavailable."""
    shown = chain.node_id
    message = challenge(own.membership.network, nonce, shown, own.node_id)
    if not verify(shown, message, answer.signature):
        raise Refused("it does not have the key of the node that it says it is")
    return own.check(chain, shown)


def peer_of(
    checked: Checked, program: str, observed: str, *, remote: str, round_trip_s: float, dialled: bool
) -> Peer:
    """The other end, as the greeting told it."""
    return Peer(
        node_id=checked.node_id,
        name=checked.name,
        roles=checked.roles,
        chain=checked.chain,
        program=program,
        clock=checked.clock,
        remote=remote,
        observed=observed,
        dialled=dialled,
        round_trip_s=round_trip_s,
    )

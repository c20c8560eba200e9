"""Control messages between two linked nodes: MessagePack arrays whose first element is the kind.

They arrive on an authenticated link, so they carry no signature. A `ticket` names one attempt to connect in
every message about it; whoever begins the attempt draws it.
"""

from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

from mesh.errors import WireError
from mesh.link.hello import ARGUMENT_BYTES_MAX, TEXT_LENGTH_MAX
from mesh.link.model import TOKEN_BYTES
from mesh.model import KEY_BYTES
from mesh.nat.stun import TRANSACTION_BYTES

CONTROL_BYTES_MAX = 8 * 1024  # sixteen of the longest addresses are 4.3 kB
FORWARD_BYTES_MAX = 2048  # a node passes this on for another: room for one message with usual addresses
ADDRESSES_MAX = 16  # candidates of one node; more are never worth trying
ADDRESS_CHARS_MAX = 264  # RFC 1035 2.3.4: a name has at most 255; brackets, colon and port beside
KIND_CHARS_MAX = 16  # "impenetrable"
REASON_CHARS_MAX = 200  # one sentence for people

Node: TypeAlias = Annotated[bytes, Meta(min_length=KEY_BYTES, max_length=KEY_BYTES)]
Ticket: TypeAlias = Annotated[bytes, Meta(min_length=TOKEN_BYTES, max_length=TOKEN_BYTES)]
Token: TypeAlias = Annotated[bytes, Meta(min_length=TOKEN_BYTES, max_length=TOKEN_BYTES)]
Nonce: TypeAlias = Annotated[int, Meta(ge=0)]
Body: TypeAlias = Annotated[bytes, Meta(max_length=FORWARD_BYTES_MAX)]
Address: TypeAlias = Annotated[str, Meta(max_length=ADDRESS_CHARS_MAX)]
Addresses: TypeAlias = Annotated[list[Address], Meta(max_length=ADDRESSES_MAX)]
Kind: TypeAlias = Annotated[str, Meta(max_length=KIND_CHARS_MAX)]
Step: TypeAlias = Annotated[int, Meta(ge=-65535, le=65535)]
Transaction: TypeAlias = Annotated[bytes, Meta(min_length=TRANSACTION_BYTES, max_length=TRANSACTION_BYTES)]
Service: TypeAlias = Annotated[str, Meta(min_length=1, max_length=TEXT_LENGTH_MAX)]
Argument: TypeAlias = Annotated[bytes, Meta(max_length=ARGUMENT_BYTES_MAX)]
Reason: TypeAlias = Annotated[str, Meta(max_length=REASON_CHARS_MAX)]


class Ping(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=1):
    """Answer with the same nonce: measures the round trip."""

    nonce: Nonce


class Pong(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=2):
    """The answer to a Ping."""

    nonce: Nonce


class Forward(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=3):
    """Give this to a node that you have a link to; one hop, never further."""

    to: Node
    body: Body


class Forwarded(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=4):
    """A body from `origin`, which the sender of this knows by its link."""

    origin: Node
    body: Body


class CallMe(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=5):
    """Dial me at one of these "host:port", in this order; the ticket goes with the connection."""

    ticket: Ticket
    addresses: Addresses


class RelayAsk(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=6):
    """Splice me with this node."""

    target: Node
    ticket: Ticket


class RelayGrant(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=7):
    """To the one who asked: connect to me with this token. `host` is where I see the other one."""

    ticket: Ticket
    token: Token
    host: Address = ""


class RelayDeny(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=8):
    """To the one who asked: not by me, or not now."""

    ticket: Ticket
    reason: Reason


class RelayOffer(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=9):
    """To the target: `origin`, seen at `host`, wants to be spliced with you; connect to me with this token if
    you want it."""

    origin: Node
    ticket: Ticket
    token: Token
    host: Address = ""


class Try(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=10):
    """Say whether you can connect to this address of mine."""

    ticket: Ticket
    address: Address


class Tried(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=11):
    """The answer to a Try, or to a CallStream that failed; `reason` is empty when it worked."""

    ticket: Ticket
    ok: bool
    reason: Reason = ""


class Bye(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=12):
    """I close this link on purpose: there is no need to dial me again for it."""

    reason: Reason


class Hold(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=13):
    """Keep this link although we are no neighbours: others reach me through it. Or no longer."""

    on: bool


class CallStream(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=14):
    """Dial me for a bulk stream of this service of yours, with the ticket as the connection's argument.

    Only a `Tried` with `ok` False answers it, when that was not possible.
    """

    ticket: Ticket
    service: Service
    argument: Argument


class Punch(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=15):
    """Find a UDP path with me, by this secret: my candidates, the kind of my router, the step of its ports.

    The other end says the same with `answer`; then both begin.
    """

    secret: Ticket
    candidates: Addresses
    kind: Kind
    port_delta: Step | None
    answer: bool


class PunchMore(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=16):
    """My candidates for the next round of a session; may be none, the order counts."""

    secret: Ticket
    candidates: Addresses


class Knock(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=17):
    """Send a Binding indication with this transaction to an address of mine, from a `fresh` port or yours."""

    transaction: Transaction
    address: Address
    fresh: bool


class OpenTcp(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=18):
    """I want a TCP connection with you that both of us open: say your side, as I shall say mine."""

    ticket: Ticket
    v6: bool


class TcpSide(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=19):
    """Where the fresh port that I use for it is seen, outside and on my LAN; nothing: it cannot be."""

    ticket: Ticket
    candidates: Addresses


Control: TypeAlias = (
    Ping
    | Pong
    | Forward
    | Forwarded
    | CallMe
    | RelayAsk
    | RelayGrant
    | RelayDeny
    | RelayOffer
    | Try
    | Tried
    | Bye
    | Hold
    | CallStream
    | Punch
    | PunchMore
    | Knock
    | OpenTcp
    | TcpSide
)
Traversal: TypeAlias = Punch | PunchMore | Knock | OpenTcp | TcpSide

_decoder = msgspec.msgpack.Decoder(Control)
encode = msgspec.msgpack.Encoder().encode


def parse_control_untrusted(data: bytes) -> Control:
    """One whole message; raises WireError if it is too large, of an unknown kind, or out of any bound."""
    if len(data) > CONTROL_BYTES_MAX:
        raise WireError(f"a control message of {len(data)} bytes; at most {CONTROL_BYTES_MAX} are allowed")
    try:
        message: Control = _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise WireError(f"not a control message: {error}") from None
    return message

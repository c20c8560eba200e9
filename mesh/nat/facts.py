"""What a node found out about the routers before it, in words of the field and in words for people. Pure.

The kinds are those that streaming people know from FrameWorks and MistServer; mapping and filtering are
those of RFC 4787 (4.1 and 5), as far as they can be told apart from inside.
"""

from dataclasses import dataclass
from enum import StrEnum

from mesh.address import numeric_address
from mesh.errors import WireError

FACTS_CHARS_MAX = 128  # what a node's record has room for
MAPPED_MAX = 4  # IPv4 and IPv6, and as many again for a host with two uplinks
PORT_DELTA_MAX = 256  # a router that steps further between two mappings is busy: the next guess is a lottery
LIFETIME_S_MAX = 3600  # longer than anybody measures
PORTMAP_CHARS_MAX = 8  # "nat-pmp" is the longest

KEEPALIVE_S = 15.0  # as long as nothing was measured
KEEPALIVE_S_MIN = 10.0  # a router that forgets sooner costs more traffic than a direct path is worth
KEEPALIVE_S_MAX = 25.0  # Linux forgets a mapping without answers after 30 s
KEEPALIVE_MARGIN_S = 3.0  # a lost keepalive is noticed and sent again in this time


class NatKind(StrEnum):
    """What a stranger meets that wants to send UDP to this node."""

    UNKNOWN = ""
    OPEN = "open"  # anybody's packets come in
    CONSISTENT = "consistent"  # one outside address for all; in comes what was sent to before
    PREDICTABLE = "predictable"  # another outside port for each destination, counted up
    IMPENETRABLE = "impenetrable"  # another outside port for each destination, drawn anew
    BLOCKED = "blocked"  # no UDP at all


class Mapping(StrEnum):
    """Which outside address this node's packets get."""

    UNKNOWN = ""
    NONE = "n"  # the node's own: nothing is translated
    INDEPENDENT = "i"  # the same for all destinations (RFC 4787 4.1, endpoint-independent)
    DEPENDENT = "d"  # another for each destination (address-dependent, or address and port)


class Filtering(StrEnum):
    """Whose packets come in."""

    UNKNOWN = ""
    INDEPENDENT = "i"  # everybody's (RFC 4787 5, endpoint-independent)
    DEPENDENT = "d"  # only of those that this node sent something to


@dataclass(frozen=True, slots=True)
class NatFacts:
    """What is known; fields at their default are not known.

    `mapped`: the outside addresses of the mesh port, "host:port", IPv4 before IPv6. `port_delta`: how far
    apart two outside ports made one after the other are, when that repeats. `lifetime_s`: a mapping was still
    there after so long without traffic; the next longer time was too long. `hairpin`: whether a packet to
    the own outside address comes back in. `portmap`: the protocol by which the router opened a port.
    """

    kind: NatKind = NatKind.UNKNOWN
    mapping: Mapping = Mapping.UNKNOWN
    filtering: Filtering = Filtering.UNKNOWN
    mapped: tuple[str, ...] = ()
    port_delta: int | None = None
    lifetime_s: float | None = None
    hairpin: bool | None = None
    portmap: str = ""

    @property
    def keepalive_s(self) -> float:
        """Seconds without traffic after which a packet keeps a mapping alive, KEEPALIVE_S_MIN to _MAX."""
        if self.lifetime_s is None:
            return KEEPALIVE_S
        return min(KEEPALIVE_S_MAX, max(KEEPALIVE_S_MIN, self.lifetime_s - KEEPALIVE_MARGIN_S))


def kind_of(mapping: Mapping, filtering: Filtering, port_delta: int | None) -> NatKind:
    """The kind that measurements add up to. What was not measured is taken for the worse."""
    if mapping is Mapping.DEPENDENT:
        return NatKind.IMPENETRABLE if port_delta is None else NatKind.PREDICTABLE
    if filtering is Filtering.INDEPENDENT:
        return NatKind.OPEN
    return NatKind.UNKNOWN if mapping is Mapping.UNKNOWN else NatKind.CONSISTENT


# --- for the node's record


def encode_facts(facts: NatFacts) -> str:
    """One text of at most FACTS_CHARS_MAX; addresses that no longer fit are left out, last first.

    `kind;mapping filtering hairpin;delta;lifetime;portmap;address,address`, what is not known is empty (in
    the second field "-"). "" when nothing is known.
    """
    if facts == NatFacts():
        return ""
    hairpin = {True: "h", False: "s", None: "-"}[facts.hairpin]
    head = ";".join(
        (
            facts.kind.value,
            (facts.mapping.value or "-") + (facts.filtering.value or "-") + hairpin,
            "" if facts.port_delta is None else str(facts.port_delta),
            "" if facts.lifetime_s is None else str(round(facts.lifetime_s)),
            facts.portmap,
            "",
        )
    )
    mapped = list(facts.mapped[:MAPPED_MAX])
    while len(head) + len(",".join(mapped)) > FACTS_CHARS_MAX:
        mapped.pop()
    return head + ",".join(mapped)


def parse_facts_untrusted(text: str) -> NatFacts:
    """What a node says of itself; raises WireError.

    Fields at the end may be missing; those that a newer version adds are skipped.
    """
    if len(text) > FACTS_CHARS_MAX or not text.isascii():
        raise WireError("NAT facts are too long, or not ASCII")
    fields = [*text.split(";"), "", "", "", "", ""]
    try:
        kind = NatKind(fields[0])
        mapping, filtering, hairpin = tuple(fields[1] or "---")
        return NatFacts(
            kind,
            Mapping(mapping.strip("-")),
            Filtering(filtering.strip("-")),
            _mapped_untrusted(fields[5]),
            _number_untrusted(fields[2], PORT_DELTA_MAX),
            _lifetime_untrusted(fields[3]),
            {"h": True, "s": False, "-": None}[hairpin],
            _portmap_untrusted(fields[4]),
        )
    except (ValueError, KeyError):
        raise WireError(f"not NAT facts: {text!a}") from None


def _mapped_untrusted(text: str) -> tuple[str, ...]:
    mapped = tuple(text.split(",")) if text else ()
    if len(mapped) > MAPPED_MAX or not all(a and numeric_address(a) == a for a in mapped):
        raise ValueError
    return mapped


def _number_untrusted(text: str, most: int) -> int | None:
    if not text:
        return None
    number = int(text)  # up to 4300 digits; the text has at most FACTS_CHARS_MAX
    if str(number) != text or not -most <= number <= most:
        raise ValueError
    return number


def _lifetime_untrusted(text: str) -> float | None:
    seconds = _number_untrusted(text, LIFETIME_S_MAX)
    if seconds is None:
        return None
    if seconds < 0:
        raise ValueError
    return float(seconds)


def _portmap_untrusted(text: str) -> str:
    if len(text) > PORTMAP_CHARS_MAX or (text and not text.replace("-", "").isalnum()):
        raise ValueError
    return text


# --- for people


def explain(facts: NatFacts, port: int | None = None) -> list[str]:
    """Sentences: what the router does, what that allows, and the one setting that would help, if any.

    `port`: the mesh port, named in the setting.
    """
    said = [_what(facts), _allows(facts), *_beside(facts)]
    setting = _setting(facts, f"port {port}" if port else "the mesh port")
    return [*said, setting] if setting else said


def _what(facts: NatFacts) -> str:
    at = f" ({facts.mapped[0]})" if facts.mapped else ""
    match facts.kind:
        case NatKind.UNKNOWN if facts.mapped:
            return (
                f"The router gives this node an outside address{at}; whether it is the same for all "
                "destinations takes a second public node to tell."
            )
        case NatKind.UNKNOWN:
            return (
                "What the router does is not known: no public node of the network has answered over UDP yet."
            )
        case NatKind.BLOCKED:
            return "Blocked: no UDP packet gets an answer here; a firewall or the provider drops them."
        case NatKind.OPEN if facts.mapping is Mapping.NONE:
            return f"Open: this node has a public address{at} and anybody's packets reach it."
        case NatKind.OPEN:
            return f"Open: the router gives this node one outside address{at} and lets anybody's packets in."
        case NatKind.CONSISTENT if facts.mapping is Mapping.NONE:
            return f"Consistent: this node has a public address{at}; a firewall lets in answers only."
        case NatKind.CONSISTENT if facts.filtering is Filtering.UNKNOWN:
            return (
                f"Consistent: the router gives this node one outside address{at}; whether it lets "
                "strangers in is not known."
            )
        case NatKind.CONSISTENT:
            return f"Consistent: the router gives this node one outside address{at} and lets in answers only."
        case NatKind.PREDICTABLE:
            return (
                "Predictable: the router takes another outside port for each destination, "
                f"each {facts.port_delta or 0:+} from the last."
            )
        case NatKind.IMPENETRABLE:
            return "Impenetrable: the router takes another, unforeseeable outside port for each destination."


def _allows(facts: NatFacts) -> str:
    match facts.kind:
        case NatKind.UNKNOWN:
            return "Nodes are connected directly where one can be dialled, else over a relay."
        case NatKind.BLOCKED:
            return "Nodes that can be dialled are reached directly, all others over a relay."
        case NatKind.OPEN:
            return "Every node that may send UDP can connect to this one directly."
        case NatKind.CONSISTENT:
            return (
                "Direct connections to all nodes work by hole punching; to impenetrable ones they may take "
                "some seconds."
            )
        case NatKind.PREDICTABLE:
            return (
                "Direct connections to open and consistent nodes work, and mostly to predictable ones; "
                "impenetrable ones may need a relay."
            )
        case NatKind.IMPENETRABLE:
            return (
                "Direct connections to open and consistent nodes work, those to consistent ones after some "
                "seconds; other impenetrable ones need a relay, predictable ones may."
            )


def _beside(facts: NatFacts) -> list[str]:
    said = []
    if facts.portmap:
        said.append(f"The router opened the mesh port when asked ({facts.portmap}).")
    if facts.lifetime_s is not None and facts.lifetime_s < KEEPALIVE_S_MIN:
        said.append(
            f"It forgets an idle connection after less than {KEEPALIVE_S_MIN:g} s: direct paths may break."
        )
    if facts.hairpin is False:
        said.append("Nodes behind this router reach each other by their LAN addresses only (no hairpin).")
    return said


def _setting(facts: NatFacts, port: str) -> str:
    """The one thing to change, "" when nothing needs to."""
    if facts.kind in (NatKind.OPEN, NatKind.UNKNOWN) or facts.portmap:
        return ""
    if facts.kind is NatKind.BLOCKED:
        return "What would help: allow outgoing UDP in the firewall."
    if facts.mapping is Mapping.NONE:
        return f"What would help: allow incoming UDP and TCP to {port} in the firewall."
    return (
        "What would help: switch on UPnP or PCP in the router, "
        f"or forward UDP and TCP {port} to this machine."
    )

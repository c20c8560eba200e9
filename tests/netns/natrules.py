"""What each type of router does with packets, as text for nft. Pure.

The device towards the internet is called wan, the one towards the home lan. No rule has an address in it: a
router keeps its rules when it gets another one.
"""

from enum import StrEnum

MAPPINGS_MAX = 65536  # as many as there are ports
SEQUENCE_FIRST, SEQUENCE_LENGTH = 40000, 4096  # the ports that a sequential router gives in turn
OTHER_PORTS = "49152-65535"  # for who wants a port that is taken
TABLES = {
    # port outside -> host and port inside
    "map inside": "inet_service : ipv4_addr . inet_service",
    # host and port inside -> address and port outside
    "map outside": "ipv4_addr . inet_service : ipv4_addr . inet_service",
    # ports outside in use (the keys of `inside`: nft does not look for a key in a map)
    "set taken": "inet_service",
    # port outside and the address it has sent to
    "set seen": "inet_service . ipv4_addr",
}


class RouterKind(StrEnum):
    """What stands between a home and the internet."""

    PUBLIC = "public"  # routed: the hosts have public addresses, and nothing is filtered
    FIREWALLED = "firewalled public"  # the same, and only what was asked for comes in
    FULL_CONE = "full cone"
    ADDRESS_RESTRICTED = "address-restricted"
    PORT_RESTRICTED = "port-restricted"  # masquerade that drops what nobody asked for
    PLAIN_MASQUERADE = "plain masquerade"  # takes that for itself, and its entry costs a later flow the port
    CARRIER = "carrier over cone"  # two port-restricted ones in a row
    SYMMETRIC_RANDOM = "symmetric random"
    SYMMETRIC_SEQUENTIAL = "symmetric sequential"
    UDP_BLOCKED = "UDP blocked"  # port-restricted for TCP

    @property
    def translates(self) -> bool:
        """Whether the home has private addresses."""
        return self not in (RouterKind.PUBLIC, RouterKind.FIREWALLED)

    @property
    def keeps_tables(self) -> bool:
        """Whether its mappings are in tables of its own: conntrack alone only knows flows."""
        return self in (RouterKind.FULL_CONE, RouterKind.ADDRESS_RESTRICTED)


def router_rules(kind: RouterKind, mapping_s: int, hairpin: bool) -> str:
    """All that a router of this kind does. The last two are for kinds that keep tables."""
    if kind is RouterKind.PUBLIC:
        return ""
    before = "\n".join(_before(kind, hairpin))
    after = "\n".join(_after(kind, hairpin))
    tables = "".join(
        f"{name} {{ type {types}; flags dynamic,timeout; size {MAPPINGS_MAX}; }}\n"
        for name, types in TABLES.items()
        if kind.keeps_tables
    )
    return f"""
table ip nat {{
{tables}
{remember_chain(mapping_s) if kind.keeps_tables else ""}
chain before {{
    type nat hook prerouting priority dstnat
    {before}
}}
chain after {{
    type nat hook postrouting priority srcnat
    {after}
}}
}}
{_filter(kind)}
"""


def remember_chain(mapping_s: int) -> str:
    """Every packet on its way out, with its new source, makes or renews its mapping.

    In a flow that began outside, the sides that conntrack calls original and reply are the other way round.
    """
    inward = "ct original ip saddr . ct original proto-src"
    replying = "ct reply ip saddr . ct reply proto-src"
    timeout = f"timeout {mapping_s}s"
    rules = [
        f"update @seen {{ udp sport . ip daddr {timeout} }}",
        f"update @taken {{ udp sport {timeout} }}",
    ]
    for direction, host in (("original", inward), ("reply", replying)):
        rules += [
            f"ct direction {direction} update @inside {{ udp sport {timeout} : {host} }}",
            f"ct direction {direction} update @outside {{ {host} {timeout} : ip saddr . udp sport }}",
        ]
    lines = "\n".join(f'oifname "wan" meta l4proto udp {rule}' for rule in rules)
    return f"chain remember {{\ntype filter hook postrouting priority srcnat + 10\n{lines}\n}}"


def forget_tables() -> str:
    """Empty them."""
    return "\n".join(f"flush {name.split()[0]} ip nat {name.split()[1]}" for name in TABLES)


def v6_rules(kind: RouterKind) -> str:
    """IPv6 has no translation; who filters IPv4 filters it too."""
    if kind is RouterKind.PUBLIC:
        return ""
    return f"""
table ip6 filter {{
chain forward {{
    type filter hook forward priority filter
    {'oifname "wan" meta l4proto udp drop' if kind is RouterKind.UDP_BLOCKED else ""}
    iifname "wan" ct state established,related accept
    iifname "wan" drop
}}
}}
"""


def core_rules(hops: int) -> str:
    """The internet between the homes: so many hops, and no way between pairs of cables named in `cut`."""
    return f"""
table inet core {{
set cut {{
    typeof iifname . oifname
}}
chain early {{
    type filter hook prerouting priority raw
    ip ttl < {hops} ip ttl set 1
    ip6 hoplimit < {hops} ip6 hoplimit set 1
}}
chain forward {{
    type filter hook forward priority filter
    iifname . oifname @cut drop
}}
}}
"""


def _before(kind: RouterKind, hairpin: bool) -> list[str]:
    """New flows that come in: to which host they go."""
    rules = []
    if kind is RouterKind.FULL_CONE:
        rules.append('iifname "wan" meta l4proto udp dnat to udp dport map @inside')
    if kind is RouterKind.ADDRESS_RESTRICTED:
        rules.append('iifname "wan" udp dport . ip saddr @seen dnat to udp dport map @inside')
    if kind.keeps_tables and hairpin:
        own = "fib daddr type local fib daddr . iif type != local"  # an address of the other side
        rules.append(f'iifname "lan" meta l4proto udp {own} dnat to udp dport map @inside')
    return rules


def _after(kind: RouterKind, hairpin: bool) -> list[str]:
    """New flows that go out: which source they get."""
    if not kind.translates:
        return []
    rules = []
    mapped = "meta l4proto udp snat to ip saddr . udp sport map @outside"
    if kind.keeps_tables:
        rules += [
            f'oifname "wan" {mapped}',
            f'oifname "wan" udp sport @taken masquerade to :{OTHER_PORTS} random',
        ]
        if hairpin:
            rules.append(f'oifname "lan" ct status dnat {mapped}')
    if kind is RouterKind.SYMMETRIC_SEQUENTIAL:
        ports = ", ".join(f"{n} : {SEQUENCE_FIRST + n}" for n in range(SEQUENCE_LENGTH))
        port = f"numgen inc mod {SEQUENCE_LENGTH} map {{ {ports} }}"
        rules.append(f'oifname "wan" meta l4proto udp masquerade to :{port}')
    random = " fully-random" if kind is RouterKind.SYMMETRIC_RANDOM else ""
    return [*rules, f'oifname "wan" masquerade{random}']


def _filter(kind: RouterKind) -> str:
    own = "" if kind is RouterKind.PLAIN_MASQUERADE else 'iifname "wan" ct state new drop'
    blocked = 'oifname "wan" meta l4proto udp drop' if kind is RouterKind.UDP_BLOCKED else ""
    mapped = 'iifname "wan" ct status dnat accept' if kind.keeps_tables else ""
    return f"""
table ip filter {{
chain input {{
    type filter hook input priority filter
    {own}
}}
chain forward {{
    type filter hook forward priority filter
    {blocked}
    {mapped}
    iifname "wan" ct state established,related accept
    iifname "wan" drop
}}
}}
"""

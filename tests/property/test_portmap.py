"""PCP, NAT-PMP, SSDP and the mapper: what is packed comes back, garbage raises only WireError, no schedule of
answers, losses and errors makes a flood or leaves something to wait for at the end."""

import struct

from hypothesis import given
from hypothesis import strategies as st

from mesh.errors import WireError
from mesh.nat.portmap import natpmp, pcp
from mesh.nat.portmap.exchange import RouterClock
from mesh.nat.portmap.mapper import Changed, Mapper, Send, Trouble, UpnpLook, UpnpMap, UpnpRemove
from mesh.nat.portmap.model import TRANSPORTS, PortMapping, Transport, UpnpGrant, is_public
from mesh.nat.portmap.probe import best_gateway_untrusted
from mesh.nat.portmap.ssdp import parse_answer_untrusted

OWN, GATEWAY, PORT = "192.168.1.2", "192.168.1.1", 7077
NONCE = b"0123456789ab"
PORTS = st.integers(1, 65535)
HOSTS = st.ip_addresses(v=4).map(str)
LEASES = st.integers(0, 2**32 - 1)
PCP, NAT_PMP = pcp.Pcp(OWN, PORT, NONCE), natpmp.NatPmp(PORT)
GRANTS = st.builds(
    UpnpGrant, HOSTS, PORTS, st.just(True), st.booleans(), st.sampled_from([0.0, 60.0]), st.text()
)


def pcp_answer(request: bytes, result: int, lease_s: int, epoch_s: int, external: int) -> bytes:
    """What a server makes of a request (RFC 6887 7.2)."""
    head = struct.pack("!BBBBII12x", 2, 0x80 | request[1], 0, result, lease_s, epoch_s)
    return head + request[24:42] + struct.pack("!H", external) + request[44:]


def nat_pmp_answer(request: bytes, result: int, lease_s: int, epoch_s: int, external: int) -> bytes:
    head = struct.pack("!BBHI", 0, 0x80 | request[1], result, epoch_s)
    return head + (
        request[4:6] + struct.pack("!HI", external, lease_s) if request[1] else bytes([203, 0, 113, 7])
    )


@given(st.binary(max_size=120) | st.binary(max_size=100).map(lambda data: b"\2\x81\0\0" + data))
def test_garbage(data: bytes) -> None:
    for parse in (
        PCP.parse_untrusted,
        NAT_PMP.parse_untrusted,
        pcp.parse_response_untrusted,
        natpmp.parse_response_untrusted,
    ):
        try:
            parse(data)
        except WireError:
            pass


@given(st.text(max_size=300) | st.from_regex(r"HTTP/1\.1 200 OK\r\nLOCATION: \S{0,60}\r\n", fullmatch=True))
def test_garbage_to_a_search(text: str) -> None:
    try:
        url = parse_answer_untrusted(text.encode("utf-8", "replace"), GATEWAY)
    except WireError:
        return
    assert url.startswith((f"http://{GATEWAY}/", f"http://{GATEWAY}:"))


@given(
    st.text(max_size=300) | st.lists(st.lists(st.sampled_from(["0" * 8, "0003", "x", "-1", "F" * 30, "7"])))
)
def test_garbage_routes(table: str | list[list[str]]) -> None:
    text = table if isinstance(table, str) else "head\n" + "\n".join(" ".join(line) for line in table)
    try:
        best_gateway_untrusted(text)
    except WireError:
        pass


@given(st.sampled_from(TRANSPORTS), PORTS, LEASES, PORTS, HOSTS)
def test_pcp_there_and_back(transport: Transport, port: int, lease_s: int, external: int, host: str) -> None:
    request = pcp.encode_map(OWN, NONCE, transport, port, lease_s, external, host)
    response = pcp.parse_response_untrusted(pcp_answer(request, 0, lease_s, 7, external))
    assert response == pcp.Response(
        pcp.MAP,
        0,
        lease_s,
        7,
        pcp.MapResponse(NONCE, transport, port, external, host if lease_s else "0.0.0.0"),
    )


@given(st.sampled_from(TRANSPORTS), PORTS, LEASES, PORTS)
def test_nat_pmp_there_and_back(transport: Transport, port: int, lease_s: int, external: int) -> None:
    request = natpmp.encode_map(transport, port, lease_s, external)
    response = natpmp.parse_response_untrusted(nat_pmp_answer(request, 0, lease_s, 7, external))
    assert response == natpmp.Response(
        natpmp.OPCODES[transport], 0, 7, natpmp.MapResponse(port, external, lease_s)
    )


@given(st.integers(0, 10**6), st.lists(st.integers(0, 10**5), max_size=20), st.floats(0.95, 1.05))
def test_a_clock_of_any_cheapness_is_no_restart(start: int, steps: list[int], pace: float) -> None:
    clock, now = RouterClock(), 0.0
    assert not clock.restarted(start, now)
    for step in steps:
        now += step
        assert not clock.restarted(start + int(now * pace), now)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                ["answer", "answer", "answer", "lose", "version", "garbage", "unreachable", "announce"]
            ),
            st.sampled_from([0, 0, 0, 2, 8, 12]),
            st.sampled_from([0, 1, 60, 7200, 2**32 - 1]),
            st.integers(0, 10**5),
            PORTS,
        ),
        max_size=60,
    ),
    st.lists(st.none() | GRANTS, max_size=6),
    st.booleans(),
)
def test_any_router(
    replies: list[tuple[str, int, int, int, int]], grants: list[UpnpGrant | None], there: bool
) -> None:
    now, sends, told = 0.0, 0, []
    mapper = Mapper(port=PORT, own=OWN, gateway=GATEWAY, nonce=NONCE, now=now)
    left, upnp = iter(replies), iter(grants)

    def reply(request: bytes) -> None:
        what, *fields = next(left, ("lose", 0, 0, 0, 0))
        if what == "answer":
            make = pcp_answer if request[0] == 2 else nat_pmp_answer
            mapper.receive(make(request, *fields), now)
        elif what == "version":
            mapper.receive(struct.pack("!BBHI", 0, 0x80 | request[1], 1, fields[2]), now)
        elif what == "garbage":
            mapper.receive(request, now)
        elif what == "unreachable":
            mapper.unreachable(now)
        elif what == "announce":
            mapper.announced(now)

    def turn() -> None:
        nonlocal sends
        while outputs := mapper.outputs():
            for output in outputs:
                match output:
                    case Send(data):
                        sends += 1
                        reply(data)
                    case UpnpMap():
                        grant = next(upnp, None)
                        if grant is None:
                            mapper.upnp_failed("no", now)
                        else:
                            mapper.upnp_mapped(grant, now)
                    case UpnpLook():
                        mapper.upnp_seen(there, now)
                    case UpnpRemove():
                        mapper.upnp_removed()
                    case Changed(mapping):
                        told.append(mapping)
                    case Trouble(text):
                        assert PORT == 7077 and GATEWAY in text

    turn()
    while (deadline := mapper.deadline()) is not None and now < 20_000.0:
        assert deadline >= now - 30_000.0
        now = max(now, deadline)
        mapper.on_deadline(now)
        turn()
    assert sends < 8 * len(replies) + 20_000 / 4
    for mapping in told:
        check(mapping)
    assert (told[-1] if told else None) == mapper.mapping or lease_only(told[-1], mapper.mapping)
    mapper.stop(now)
    turn()
    while (deadline := mapper.deadline()) is not None:
        now = max(now, deadline)
        mapper.on_deadline(now)
        turn()
    assert mapper.stopped


def check(mapping: PortMapping | None) -> None:
    if mapping is not None:
        host, _, port = mapping.external.rpartition(":")
        assert 0 < int(port) < 65536
        assert mapping.usable == is_public(host)
        assert mapping.tcp or mapping.udp
        assert mapping.said


def lease_only(one: PortMapping | None, other: PortMapping | None) -> bool:
    return one is not None and other is not None and (one.external, one.said) == (other.external, other.said)

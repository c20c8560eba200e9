"""What a puncher sends when, what it believes, and what it refuses to do for a liar."""

from collections import Counter
from collections.abc import Iterator, Sequence
from math import inf
from random import Random

import pytest

from mesh.address import host_of
from mesh.errors import StateError, WireError
from mesh.nat.facts import NatKind
from mesh.nat.ping import (
    PROBE_BYTES,
    Probe,
    ProbeKind,
    encode_probe,
    parse_probe_untrusted,
    probe_tag_untrusted,
    sender_key,
    session_tag,
)
from mesh.nat.punch import (
    LAN_WAIT_S,
    MARGIN_S,
    PREDICTED_AHEAD,
    PREDICTED_SOCKETS,
    ROUND_S,
    ROUNDS_MAX,
    SEARCH_PER_S,
    SEARCH_PROBES_MAX,
    SEARCH_SOCKETS,
    SEND_BURST,
    Puncher,
)
from mesh.nat.punch_steps import (
    CloseSockets,
    GaveUp,
    OpenSockets,
    Output,
    Punched,
    SendProbe,
    Side,
    TellOther,
)
from mesh.nat.targets import (
    ANSWERS_KEPT,
    CANDIDATES_MAX,
    PROBES_UNPROVEN_HOST_MAX,
    PROBES_UNPROVEN_MAX,
    TOTAL_MAX,
    VOUCHED_ADDRESS_MAX,
    Budget,
    usable_targets,
)

SECRET = bytes(range(16))
TAG = session_tag(SECRET)
KEYS = {True: sender_key(SECRET, initiator=True), False: sender_key(SECRET, initiator=False)}
OWN, OTHER = "198.51.100.1:7077", "203.0.113.2:7077"
ROUND_TRIP_S = 0.1
CONSISTENT, IMPENETRABLE, PREDICTABLE = NatKind.CONSISTENT, NatKind.IMPENETRABLE, NatKind.PREDICTABLE


class End:
    """A puncher with everything that it ever said, and time."""

    def __init__(
        self,
        *,
        initiator: bool = True,
        other: Sequence[str] = (OTHER,),
        own: Sequence[str] = (OWN,),
        kinds: tuple[NatKind, NatKind] = (CONSISTENT, CONSISTENT),
        eager: bool = False,
        vouched: Sequence[str] = (),
    ) -> None:
        self.now = 100.0
        self.initiator = initiator
        self.said: list[tuple[float, Output]] = []
        self.puncher = Puncher(
            SECRET,
            initiator=initiator,
            own=Side(tuple(own), kinds[0], 2 if kinds[0] is PREDICTABLE else None),
            other=Side(tuple(other), kinds[1]),
            round_trip_s=ROUND_TRIP_S,
            eager=eager,
            random=Random(1),
            now=self.now,
            vouched=vouched,
        )
        self.run(0.0)

    def run(self, seconds: float) -> None:
        until = self.now + seconds
        while True:
            due = self.puncher.deadline()
            self.said += [(self.now, output) for output in self.puncher.outputs()]
            if due is None or max(due, self.now) > until:
                break
            self.now = max(due, self.now)
            self.puncher.on_deadline(self.now)
        self.now = until

    def hear(
        self, kind: ProbeKind, nonce: bytes, source: str = OTHER, socket: int = 0, *, own_key: bool = False
    ) -> None:
        key = KEYS[self.initiator if own_key else not self.initiator]
        self.puncher.receive(socket, encode_probe(key, TAG, kind, nonce), source, self.now)
        self.run(0.0)

    def sent(self, address: str | None = None) -> list[tuple[float, SendProbe]]:
        return [
            (when - 100.0, output)
            for when, output in self.said
            if isinstance(output, SendProbe) and address in (None, output.address)
        ]

    def probes(self, kind: ProbeKind, address: str | None = None) -> list[Probe]:
        key = KEYS[self.initiator]
        found = [parse_probe_untrusted(output.data, key, TAG) for _, output in self.sent(address)]
        return [probe for probe in found if probe.kind is kind]

    def last(self, kind: type[Output]) -> Output | None:
        return next((output for _, output in reversed(self.said) if isinstance(output, kind)), None)

    def answer_last_ping(self, source: str = OTHER, socket: int = 0) -> None:
        pings = self.probes(ProbeKind.PING, source)
        self.hear(ProbeKind.PONG, pings[-1].nonce, source, socket)


def nonces() -> Iterator[bytes]:
    return (number.to_bytes(8, "big") for number in range(1_000_000))


# --- the codec


def test_probe_layout() -> None:
    data = encode_probe(KEYS[True], TAG, ProbeKind.PONG, b"12345678")
    assert len(data) == PROBE_BYTES == 35
    assert data[:3] == b"\x06\x01\x02" and data[3:11] == TAG and data[11:19] == b"12345678"
    assert probe_tag_untrusted(data) == TAG
    assert parse_probe_untrusted(memoryview(data), KEYS[True], TAG) == Probe(ProbeKind.PONG, b"12345678")


def test_probe_is_of_one_end_of_one_session() -> None:
    data = encode_probe(KEYS[True], TAG, ProbeKind.PING, bytes(8))
    other = bytes(16)
    for key, tag in (
        (KEYS[False], TAG),
        (sender_key(other, initiator=True), TAG),
        (KEYS[True], session_tag(other)),
    ):
        with pytest.raises(WireError):
            parse_probe_untrusted(data, key, tag)


@pytest.mark.parametrize("at", range(PROBE_BYTES))
def test_every_byte_of_a_probe_counts(at: int) -> None:
    data = bytearray(encode_probe(KEYS[True], TAG, ProbeKind.PING, bytes(8)))
    data[at] ^= 1
    with pytest.raises(WireError):
        parse_probe_untrusted(bytes(data), KEYS[True], TAG)


def test_secret_of_wrong_size() -> None:
    with pytest.raises(StateError):
        session_tag(b"short")


# --- where to


def test_targets_are_numeric_near_first_and_few() -> None:
    said = ["203.0.113.2:7077", "[2001:db8::2]:7077", "192.168.1.5:7077", "100.64.3.2:7077"]
    refused = ["node.example:7077", "224.0.0.1:7077", "0.0.0.0:7077", "203.0.113.2:0", "[fe80::1]:7077", "x"]
    assert usable_targets([*refused, *said, *said], [OWN]) == [
        "192.168.1.5:7077",
        "100.64.3.2:7077",
        "[2001:db8::2]:7077",
        "203.0.113.2:7077",
    ]
    many = [f"203.0.113.{number}:7077" for number in range(1, 200)]
    assert len(usable_targets(many, [])) == CANDIDATES_MAX


def test_own_address_and_loopback_are_no_targets() -> None:
    assert usable_targets([OWN, "127.0.0.1:22"], [OWN]) == []
    assert usable_targets(["127.0.0.1:7078"], ["127.0.0.1:7077"]) == ["127.0.0.1:7078"]


def test_budget_of_an_address_keeps_some_for_answers() -> None:
    budget = Budget([])
    assert sum(budget.take(OTHER) for _ in range(100)) == PROBES_UNPROVEN_MAX - ANSWERS_KEPT
    assert sum(budget.take(OTHER, answer=True) for _ in range(100)) == ANSWERS_KEPT
    budget.prove(OTHER)
    assert sum(budget.take(OTHER) for _ in range(2 * TOTAL_MAX)) == TOTAL_MAX - PROBES_UNPROVEN_MAX


def test_budget_of_a_host() -> None:
    budget = Budget(["203.0.113.9"])
    ports = [f"203.0.113.2:{port}" for port in range(1, 100)]
    assert sum(budget.take(port) for port in ports) < PROBES_UNPROVEN_HOST_MAX
    assert sum(budget.take(port, answer=True) for port in ports) > 0
    assert not budget.take("203.0.113.2:1", answer=True)
    assert sum(budget.take("203.0.113.9:7077", answer=True) for _ in range(100)) == VOUCHED_ADDRESS_MAX
    assert budget.take_search("203.0.113.9") and not budget.take_search("203.0.113.2")


# --- when


def test_initiator_pings_at_once() -> None:
    """The responder's openers left before its answer came here."""
    end = End()
    assert [(when, output.ttl) for when, output in end.sent()] == [(0.0, None)]


def test_responder_sends_openers_then_pings_when_the_initiators_have_left() -> None:
    end = End(initiator=False)
    end.run(0.2)
    assert [output.ttl for _, output in end.sent()] == [2, 2, None, None]
    assert end.sent()[2][0] == pytest.approx(ROUND_TRIP_S / 2 + MARGIN_S)


def test_lan_comes_first_and_needs_no_openers() -> None:
    end = End(initiator=False, other=[OTHER, "192.168.1.5:7077"])
    first = end.sent()[0][1]
    assert (first.address, first.ttl) == ("192.168.1.5:7077", None)


def test_many_packets_are_paced() -> None:
    end = End(other=[f"203.0.113.{number}:7077" for number in range(2, 18)])
    assert len(end.sent()) <= SEND_BURST + 1
    end.run(0.05)
    assert len(end.sent()) == 16


def test_ipv6_leaves_from_the_mesh_port_in_every_round() -> None:
    end = End(other=["[2001:db8::2]:7077"])
    end.run(ROUND_S)
    end.puncher.opened([5], end.now)
    end.puncher.mapped(5, "198.51.100.1:4000", end.now)
    end.puncher.told([], end.now)
    end.run(1.0)
    assert {output.socket for _, output in end.sent()} == {0}


# --- finding a path


def test_pong_is_a_path_and_is_chosen_until_the_other_end_knows() -> None:
    end = End()
    end.run(0.04)
    end.answer_last_ping()
    assert end.last(Punched) == Punched(0, OTHER, pytest.approx(0.04))
    end.run(0.15)
    choices = end.probes(ProbeKind.CHOICE)
    assert len(choices) == 2
    end.hear(ProbeKind.PONG, choices[0].nonce)
    assert end.puncher.deadline() is None


def test_other_pongs_do_not_stop_the_choice() -> None:
    end = End()
    end.hear(ProbeKind.PING, b"12345678")
    first, second = end.probes(ProbeKind.PING)
    end.hear(ProbeKind.PONG, first.nonce)
    end.hear(ProbeKind.PONG, second.nonce)
    assert end.puncher.deadline() is not None


def test_ping_from_an_unknown_address_is_answered_by_pong_and_ping() -> None:
    end = End(initiator=False)
    end.hear(ProbeKind.PING, b"12345678", "203.0.113.2:5555")
    assert end.probes(ProbeKind.PONG, "203.0.113.2:5555") == [Probe(ProbeKind.PONG, b"12345678")]
    assert len(end.probes(ProbeKind.PING, "203.0.113.2:5555")) == 1


def test_choice_ends_the_responders_search() -> None:
    end = End(initiator=False)
    end.hear(ProbeKind.CHOICE, b"12345678", "203.0.113.2:5555")
    assert end.last(Punched) == Punched(0, "203.0.113.2:5555", ROUND_TRIP_S)
    assert end.puncher.deadline() is None
    assert len(end.probes(ProbeKind.PONG)) == 1


def test_responder_cannot_choose() -> None:
    end = End()
    end.hear(ProbeKind.CHOICE, b"12345678")
    assert end.puncher.result is None


def test_lan_is_waited_for_when_both_have_one_outside_address() -> None:
    end = End(other=["198.51.100.1:9999", "192.168.1.5:7077"])
    end.run(0.002)
    end.answer_last_ping("198.51.100.1:9999")
    assert end.puncher.result is None
    end.answer_last_ping("192.168.1.5:7077")
    assert end.last(Punched) == Punched(0, "192.168.1.5:7077", pytest.approx(0.002))


def test_lan_is_not_waited_for_long() -> None:
    end = End(other=["198.51.100.1:9999", "192.168.1.5:7077"])
    end.answer_last_ping("198.51.100.1:9999")
    end.run(LAN_WAIT_S)
    assert end.last(Punched) == Punched(0, "198.51.100.1:9999", 0.0)


# --- further rounds


def test_next_round_is_from_a_fresh_port_with_openers_again() -> None:
    end = End()
    end.run(ROUND_S + 0.01)
    assert end.last(OpenSockets) == OpenSockets(1, True)
    end.puncher.opened([5], end.now)
    end.puncher.mapped(5, "198.51.100.1:4000", end.now)
    end.run(0.01)
    assert end.last(TellOther) == TellOther(("198.51.100.1:4000",))
    end.puncher.told(["203.0.113.2:5000"], end.now)
    end.run(0.3)
    sent = end.sent("203.0.113.2:5000")
    assert {output.socket for _, output in sent} == {5}
    assert [output.ttl for _, output in sent][:4] == [2, 3, 2, None]


def test_round_begins_when_the_other_end_begins_it() -> None:
    end = End()
    end.puncher.told(["203.0.113.2:5000"], end.now)
    end.run(0.0)
    assert end.last(OpenSockets) is not None


def test_private_address_that_stun_saw_is_an_outside_one() -> None:
    end = End(kinds=(IMPENETRABLE, CONSISTENT), eager=True, other=["10.1.1.1:7077"])
    end.run(0.3)
    end.puncher.opened(range(1, SEARCH_SOCKETS + 1), end.now)
    end.puncher.told(["10.9.9.9:5000"], end.now)
    end.run(0.5)
    assert len(end.sent("10.9.9.9:5000")) == SEARCH_SOCKETS


def test_without_stun_the_mesh_port_stands_in() -> None:
    end = End()
    end.run(ROUND_S)
    end.puncher.opened([5], end.now)
    end.puncher.mapped(5, None, end.now)
    end.puncher.told(["203.0.113.2:5000"], end.now)
    end.run(0.1)
    assert end.last(TellOther) == TellOther(())
    assert {output.socket for _, output in end.sent("203.0.113.2:5000")} == {0}


def test_rounds_end_and_sockets_are_closed() -> None:
    end = End()
    for number in range(1, ROUNDS_MAX):
        end.run(ROUND_S)
        end.puncher.opened([number], end.now)
        end.puncher.mapped(number, f"198.51.100.1:{4000 + number}", end.now)
    end.run(10.0)
    assert end.last(CloseSockets) == CloseSockets((1, 2))
    gave_up = end.last(GaveUp)
    assert isinstance(gave_up, GaveUp) and "consistent" in gave_up.reason
    assert end.puncher.deadline() is None
    end.puncher.opened([9], end.now)
    end.run(0.0)
    assert end.last(CloseSockets) == CloseSockets((9,))


def test_rounds_are_told_of_once_each_though_the_shell_is_slow() -> None:
    end = End()
    end.run(10.0)
    assert [output for _, output in end.said if isinstance(output, TellOther)] == [TellOther(())]


def test_chosen_socket_stays_open() -> None:
    end = End()
    end.run(ROUND_S)
    end.puncher.opened([5], end.now)
    end.puncher.mapped(5, "198.51.100.1:4000", end.now)
    end.run(ROUND_S)
    end.puncher.opened([6], end.now)
    end.puncher.told(["203.0.113.2:5000"], end.now)
    end.run(0.1)
    end.answer_last_ping("203.0.113.2:5000", 5)
    assert end.last(CloseSockets) == CloseSockets((6,))
    assert isinstance(end.puncher.result, Punched) and end.puncher.result.socket == 5


def test_counting_router_is_met_ahead() -> None:
    end = End(kinds=(PREDICTABLE, CONSISTENT))
    end.run(0.1)
    assert end.last(OpenSockets) == OpenSockets(PREDICTED_SOCKETS, True)
    ids = list(range(1, PREDICTED_SOCKETS + 1))
    end.puncher.opened(ids, end.now)
    end.puncher.mapped(1, "198.51.100.1:4000", end.now)
    end.puncher.told(["203.0.113.2:5000"], end.now)
    end.run(0.1)
    assert end.last(TellOther) == TellOther((f"198.51.100.1:{4000 + 2 * PREDICTED_AHEAD}",))
    openers = [output for _, output in end.sent("203.0.113.2:5000") if output.ttl == 2]
    assert [output.socket for output in openers] == ids


@pytest.mark.parametrize(
    ("kinds", "word"),
    [
        ((NatKind.BLOCKED, CONSISTENT), "this node"),
        ((CONSISTENT, NatKind.BLOCKED), "the other node"),
        ((IMPENETRABLE, IMPENETRABLE), "both routers"),
        ((IMPENETRABLE, PREDICTABLE), "both routers"),
        ((CONSISTENT, IMPENETRABLE), "wanted for long"),
    ],
)
def test_reason_for_giving_up(kinds: tuple[NatKind, NatKind], word: str) -> None:
    end = End(kinds=kinds)
    end.run(10.0)
    assert isinstance(end.puncher.result, GaveUp) and word in end.puncher.result.reason


# --- the search


def searching(vouched: Sequence[str] = ("203.0.113.2",)) -> End:
    end = End(kinds=(CONSISTENT, IMPENETRABLE), eager=True, vouched=vouched)
    end.run(0.3)
    end.puncher.opened([5], end.now)
    end.puncher.mapped(5, "198.51.100.1:4000", end.now)
    end.puncher.told([], end.now)
    return end


def test_search_goes_through_different_ports_of_a_vouched_host() -> None:
    end = searching()
    began = end.now
    end.run(10.0)
    found = [(when, output) for when, output in end.sent() if output.socket == 5]
    assert len({output.address for _, output in found}) == len(found) == SEARCH_PROBES_MAX
    assert {host_of(output.address) for _, output in found} == {"203.0.113.2"}
    took_s = found[-1][0] - (began - 100.0)
    assert SEARCH_PROBES_MAX / took_s <= SEARCH_PER_S


def test_search_is_only_for_vouched_hosts() -> None:
    end = searching(vouched=())
    end.run(10.0)
    assert not [output for _, output in end.sent() if output.socket == 5]


def test_searched_side_sends_only_what_dies_on_the_way() -> None:
    end = End(kinds=(IMPENETRABLE, CONSISTENT), eager=True)
    end.run(0.3)
    assert end.last(OpenSockets) == OpenSockets(SEARCH_SOCKETS, False)
    end.puncher.opened(range(1, SEARCH_SOCKETS + 1), end.now)
    end.puncher.told(["203.0.113.2:5000"], end.now)
    end.run(0.5)
    sent = end.sent("203.0.113.2:5000")
    assert Counter(output.ttl for _, output in sent) == {2: SEARCH_SOCKETS}


# --- liars


def test_replayed_ping_gets_nothing() -> None:
    end = End(initiator=False)
    end.hear(ProbeKind.PING, b"12345678")
    before = len(end.sent())
    for source in (OTHER, "203.0.113.66:1"):
        end.hear(ProbeKind.PING, b"12345678", source)
    assert len(end.sent()) == before
    assert end.puncher.dropped == 2


def test_forged_foreign_and_reflected_probes_get_nothing() -> None:
    end = End(initiator=False)
    before = len(end.sent())
    good = encode_probe(KEYS[True], TAG, ProbeKind.CHOICE, bytes(8))
    for data in (b"", b"\x06", bytes(PROBE_BYTES), good[:-1] + b"x", good + b"x", good[:-1]):
        end.puncher.receive(0, data, OTHER, end.now)
    end.hear(ProbeKind.PING, bytes(8), own_key=True)
    for _, output in end.sent():
        end.puncher.receive(0, output.data, OTHER, end.now)
    end.run(0.0)
    assert len(end.sent()) == before and end.puncher.result is None


def test_pong_counts_only_from_where_the_ping_went() -> None:
    end = End(other=[OTHER, "203.0.113.3:7077"])
    ping = end.probes(ProbeKind.PING, OTHER)[0]
    end.hear(ProbeKind.PONG, ping.nonce, "203.0.113.3:7077")
    end.hear(ProbeKind.PONG, ping.nonce, OTHER, socket=4)
    end.hear(ProbeKind.PONG, bytes(8), OTHER)
    assert end.puncher.result is None and end.puncher.dropped == 3
    end.hear(ProbeKind.PONG, ping.nonce, OTHER)
    assert end.puncher.result is not None


def to_host(end: End, host: str) -> int:
    """Packets that arrive there."""
    return sum(host_of(output.address) == host and output.ttl is None for _, output in end.sent())


def drive_on(end: End, told: Sequence[str]) -> None:
    """The other end plays its part in every round, and tells what it likes."""
    for number in range(1, 8):
        end.run(0.4)
        end.puncher.opened([number], end.now)
        end.puncher.mapped(number, f"198.51.100.1:{4000 + number}", end.now)
        end.puncher.told(told, end.now)
    end.run(10.0)


@pytest.mark.parametrize("initiator", [True, False])
@pytest.mark.parametrize("other", [CONSISTENT, IMPENETRABLE, PREDICTABLE])
def test_victim_among_the_candidates_gets_a_few_packets(initiator: bool, other: NatKind) -> None:
    victim = "203.0.113.66:53"
    end = End(
        initiator=initiator,
        other=[OTHER, victim],
        kinds=(CONSISTENT, other),
        eager=True,
        vouched=["203.0.113.2"],
    )
    drive_on(end, [victim])
    assert 0 < to_host(end, "203.0.113.66") <= PROBES_UNPROVEN_MAX


def test_victim_with_many_ports_gets_no_more_than_a_host_does() -> None:
    ports = [f"203.0.113.66:{port}" for port in range(1, 17)]
    end = End(other=ports, kinds=(CONSISTENT, IMPENETRABLE), eager=True)
    drive_on(end, [f"203.0.113.66:{port}" for port in range(100, 116)])
    assert to_host(end, "203.0.113.66") <= PROBES_UNPROVEN_HOST_MAX


@pytest.mark.parametrize("kind", [ProbeKind.PING, ProbeKind.CHOICE])
def test_peer_that_forges_sources_makes_nobody_be_flooded(kind: ProbeKind) -> None:
    """The peer knows the secret: its pings are good, wherever they claim to come from."""
    end = End(initiator=False)
    for nonce in (number.to_bytes(8, "big") for number in range(500)):
        end.hear(kind, nonce, "203.0.113.66:53")
    drive_on(end, [])
    assert to_host(end, "203.0.113.66") <= PROBES_UNPROVEN_MAX


def sizes(puncher: Puncher) -> dict[str, int]:
    """Of everything that a puncher and its budget keep."""
    kept = {}
    for owner in (puncher, puncher._budget):
        for name, value in vars(owner).items():
            if hasattr(value, "__len__"):
                kept[name] = len(value)
    return kept


def test_memory_is_bounded_whatever_the_peer_sends() -> None:
    end = End(initiator=False)
    for count, nonce in zip(range(5000), nonces(), strict=False):
        source = f"203.0.{count % 256}.{count // 256}:{1024 + count}"
        end.hear(ProbeKind.PING, nonce, source)
        end.puncher.told([f"203.0.113.{count % 256}:7"] * 50, end.now)
    assert max(sizes(end.puncher).values()) <= 1024
    assert len(end.sent()) <= TOTAL_MAX


def test_garbage_after_the_end_changes_nothing() -> None:
    end = End(kinds=(NatKind.BLOCKED, CONSISTENT))
    end.hear(ProbeKind.PING, bytes(8))
    end.puncher.told([OTHER], end.now)
    end.puncher.mapped(3, "198.51.100.1:4000", end.now)
    end.puncher.on_deadline(inf)
    end.run(1.0)
    assert not end.sent() and end.puncher.deadline() is None

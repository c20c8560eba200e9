"""Probes come back as packed, garbage raises only WireError; a puncher takes anything in any order."""

from collections import Counter
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from mesh.address import host_of
from mesh.errors import WireError
from mesh.nat.facts import NatKind
from mesh.nat.ping import (
    Probe,
    ProbeKind,
    encode_probe,
    parse_probe_untrusted,
    probe_tag_untrusted,
    sender_key,
    session_tag,
)
from mesh.nat.punch import PINGS_ANSWERED_MAX, Puncher
from mesh.nat.punch_steps import GaveUp, OpenSockets, Punched, SendProbe, Side
from mesh.nat.targets import CANDIDATES_MAX, PROBES_UNPROVEN_HOST_MAX, TOTAL_MAX, usable_targets

SECRETS = st.binary(min_size=16, max_size=16)
NONCES = st.binary(min_size=8, max_size=8)
KINDS = st.sampled_from(ProbeKind)
ADDRESSES = st.one_of(
    st.builds("203.0.113.{}:{}".format, st.integers(1, 20), st.integers(1, 65535)),
    st.builds("192.168.1.{}:{}".format, st.integers(1, 3), st.integers(7077, 7079)),
    st.just("[2001:db8::2]:7077"),
)
SAID = st.lists(st.one_of(ADDRESSES, st.text(max_size=40)), max_size=30)
SIDES = st.builds(
    Side,
    st.lists(ADDRESSES, max_size=20).map(tuple),
    st.sampled_from(NatKind),
    st.one_of(st.none(), st.integers(-300, 300)),
)
SECRET = bytes(16)
TAG = session_tag(SECRET)
STEPS = st.one_of(
    st.tuples(st.just("wait"), st.floats(0, 3)),
    st.tuples(st.just("probe"), KINDS, NONCES, ADDRESSES, st.integers(0, 4), st.booleans()),
    st.tuples(st.just("garbage"), st.binary(max_size=40), ADDRESSES),
    st.tuples(st.just("pong"), st.integers(0, 100)),
    st.tuples(st.just("opened"), st.lists(st.integers(1, 300), max_size=5)),
    st.tuples(st.just("mapped"), st.integers(0, 5), st.one_of(st.none(), ADDRESSES, st.text(max_size=20))),
    st.tuples(st.just("told"), SAID),
)


@given(SECRETS, st.booleans(), KINDS, NONCES)
def test_probes_come_back(secret: bytes, initiator: bool, kind: ProbeKind, nonce: bytes) -> None:
    key, tag = sender_key(secret, initiator=initiator), session_tag(secret)
    data = encode_probe(key, tag, kind, nonce)
    assert probe_tag_untrusted(data) == tag
    assert parse_probe_untrusted(data, key, tag) == Probe(kind, nonce)


@given(st.one_of(st.binary(max_size=60), st.binary(min_size=24, max_size=24).map(b"\x06\x01\x01".__add__)))
def test_garbage_is_no_probe(data: bytes) -> None:
    probe_tag_untrusted(data)
    try:
        parse_probe_untrusted(data, sender_key(SECRET, initiator=True), TAG)
    except WireError:
        return
    raise AssertionError("a MAC was guessed")


@given(SAID, st.lists(st.one_of(ADDRESSES, st.text(max_size=20)), max_size=5))
def test_targets_are_usable(said: list[str], own: list[str]) -> None:
    targets = usable_targets(said, own)
    assert len(targets) == len(set(targets)) <= CANDIDATES_MAX
    assert not set(targets) & set(own)
    assert usable_targets(targets, own) == targets


class Driven:
    """A puncher at the mercy of its shell and its peer, who knows the secret."""

    def __init__(self, own: Side, other: Side, initiator: bool, eager: bool) -> None:
        self.now = 0.0
        self.initiator = initiator
        self.sent: list[SendProbe] = []
        self.ends = 0
        self.puncher = Puncher(
            SECRET,
            initiator=initiator,
            own=own,
            other=other,
            round_trip_s=0.05,
            eager=eager,
            random=Random(1),
            now=0.0,
        )

    def do(self, step: tuple) -> None:  # type: ignore[type-arg]  # as drawn from STEPS
        match step:
            case ("wait", seconds):
                self.wait(seconds)
            case ("probe", kind, nonce, source, socket, theirs):
                key = sender_key(SECRET, initiator=self.initiator != theirs)
                self.puncher.receive(socket, encode_probe(key, TAG, kind, nonce), source, self.now)
            case ("garbage", data, source):
                self.puncher.receive(0, data, source, self.now)
            case ("pong", number) if self.sent:
                ping = self.sent[number % len(self.sent)]
                key = sender_key(SECRET, initiator=not self.initiator)
                data = encode_probe(key, TAG, ProbeKind.PONG, ping.data[11:19])
                self.puncher.receive(ping.socket, data, ping.address, self.now)
            case ("opened", ids):
                self.puncher.opened(ids, self.now)
            case ("mapped", socket, address):
                self.puncher.mapped(socket, address, self.now)
            case ("told", candidates):
                self.puncher.told(candidates, self.now)
        self.take()

    def wait(self, seconds: float) -> None:
        until = self.now + seconds
        while (due := self.puncher.deadline()) is not None and due <= until:
            self.now = max(self.now, due)
            self.puncher.on_deadline(self.now)
            self.take()
        self.now = until

    def take(self) -> None:
        for output in self.puncher.outputs():
            if isinstance(output, SendProbe):
                self.sent.append(output)
            elif isinstance(output, Punched | GaveUp):
                self.ends += 1
            else:
                assert not isinstance(output, OpenSockets) or output.count <= 256


@given(SIDES, SIDES, st.booleans(), st.booleans(), st.lists(STEPS, max_size=30))
def test_any_order_of_events(
    own: Side, other: Side, initiator: bool, eager: bool, steps: list[tuple[object, ...]]
) -> None:
    """Nothing raises, there is one end, and hosts that never answered got few packets."""
    driven = Driven(own, other, initiator, eager)
    driven.take()
    for step in steps:
        driven.do(step)
    driven.wait(60.0)
    assert driven.ends == 1 and driven.puncher.deadline() is None
    assert len(driven.sent) <= min(TOTAL_MAX, PINGS_ANSWERED_MAX + 2000)
    if not any(step[0] == "pong" for step in steps):
        arriving = Counter(host_of(output.address) for output in driven.sent if output.ttl is None)
        assert max(arriving.values(), default=0) <= PROBES_UNPROVEN_HOST_MAX

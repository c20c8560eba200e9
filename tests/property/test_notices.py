"""Notices: any order, loss and repetition of messages ends in the same table; garbage is a WireError."""

import hashlib
from random import Random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mesh.errors import WireError
from mesh.identity.claim import Chain
from mesh.identity.invite import Terms, enrol, make_invite
from mesh.identity.key import SecretKey
from mesh.identity.membership import Membership, found_network
from mesh.identity.notice import MS, Notice, make_notice, parse_notice_untrusted
from mesh.identity.notices import PACE_S, Notices

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine is shared
NOW = 1_800_000_000


def key(name: str) -> SecretKey:
    return SecretKey(hashlib.sha256(name.encode()).digest())


OWNER = key("owner")
OWN = found_network(OWNER, key("node").node_id, "node", NOW)
INVITE = make_invite(
    OWNER,
    OWNER.node_id,
    Terms(uses=3),
    enrolment_seed=key("invite").seed,
    seeds=("node.example.org:4100",),
    now_unix_s=NOW,
)
NAMES = "abc"
CHAINS: dict[str, Chain] = {name: enrol(INVITE, key(name).node_id, name, NOW).chain for name in NAMES}

NOTICE = st.builds(
    lambda name, slot, at, payload: make_notice(key(name), CHAINS[name], slot, (NOW + at) * MS, payload),
    st.sampled_from(NAMES),
    st.integers(0, 2),
    st.integers(0, 4),  # few moments: the same is said twice, and different things at once
    st.sampled_from([b"", b"one", b"two"]),
)


def learned(notices: list[Notice]) -> Notices:
    table = Notices(Membership(OWN))
    for at, notice in enumerate(notices):
        table.learn(notice, at * PACE_S, NOW + 5)
    return table


@given(st.lists(NOTICE, max_size=30), st.randoms(use_true_random=False))
@unhurried
def test_any_order_with_any_repetition_ends_the_same(notices: list[Notice], random: Random) -> None:
    shuffled = notices + random.choices(notices, k=len(notices)) if notices else []
    random.shuffle(shuffled)
    first, second = learned(notices), learned(shuffled)
    assert first.all() == second.all()
    for notice in notices:
        kept = next(one for one in first.all() if one.rank == notice.rank)
        assert kept.version >= notice.version  # what is newer wins, also where it takes back


@given(st.lists(NOTICE, max_size=20), st.lists(NOTICE, max_size=20))
@unhurried
def test_merging_two_tables_is_merging_what_went_into_them(here: list[Notice], there: list[Notice]) -> None:
    merged = learned([*learned(here).all(), *learned(there).all()])
    assert merged.all() == learned(here + there).all()


@given(NOTICE, st.data())
@unhurried
def test_damaged_notices_parse_or_are_wire_errors(notice: Notice, data: st.DataObject) -> None:
    assert parse_notice_untrusted(notice.data) == notice
    damaged = bytearray(notice.data)
    damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        parse_notice_untrusted(bytes(damaged[: data.draw(st.integers(0, len(damaged)))]))
    except WireError:
        pass


@given(st.binary(max_size=200))
def test_garbage_is_a_wire_error(data: bytes) -> None:
    try:
        parse_notice_untrusted(data)
    except WireError:
        pass

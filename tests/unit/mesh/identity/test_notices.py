"""Notices: who may say what, for how long, and which of two counts."""

from typing import Any

import pytest

from mesh.errors import Refused, StateError, WireError
from mesh.identity import notices as notices_module
from mesh.identity.claim import Chain
from mesh.identity.invite import Terms
from mesh.identity.key import SecretKey
from mesh.identity.membership import Membership
from mesh.identity.moment import CLOCK_TOLERANCE_S
from mesh.identity.notice import (
    MS,
    NOTICE_BYTES_MAX,
    NOTICE_S,
    PAYLOAD_BYTES_MAX,
    REPEAT_S,
    SLOTS,
    Notice,
    check_notice,
    make_notice,
    parse_notice_untrusted,
)
from mesh.identity.notices import PACE_BURST_S, PACE_S, Notices
from mesh.model import Role

LATER = 100


class Author:
    """A member who says things."""

    def __init__(self, network: Any, name: str, *roles: Role) -> None:
        self.key: SecretKey = network.key(name)
        terms = Terms(roles=frozenset(roles or (Role.ORIGIN,)))
        self.chain: Chain = network.join(network.invite(terms, f"{name}'s invite"), name)
        self.membership = Membership(self.chain)
        self.notices = Notices(self.membership)

    def says(self, payload: bytes, slot: int = 0, at_unix_s: float = 0.0) -> Notice:
        return make_notice(self.key, self.chain, slot, int(at_unix_s * MS), payload)


@pytest.fixture
def unix_s(network: Any) -> float:
    return float(network.now + LATER)


@pytest.fixture
def table(network: Any) -> Notices:
    return Notices(network.membership())


def said(notices: Notices, unix_s: float) -> list[bytes]:
    return [notice.payload for notice in notices.in_force(unix_s)]


def test_a_notice_comes_back_from_its_bytes(network: Any, unix_s: float) -> None:
    author = Author(network, "attic")
    notice = author.says(b"x" * PAYLOAD_BYTES_MAX, SLOTS - 1, unix_s)
    assert len(notice.data) <= NOTICE_BYTES_MAX
    assert parse_notice_untrusted(notice.data) == notice
    check_notice(notice, network.membership()._verify)


@pytest.mark.parametrize("data", [b"", b"\x90", b"\x92\xc4\x00\xc4\x00", bytes(NOTICE_BYTES_MAX + 1)])
def test_garbage_is_a_wire_error(data: bytes) -> None:
    with pytest.raises(WireError):
        parse_notice_untrusted(data)


def test_the_newest_counts_in_any_order(network: Any, table: Notices, unix_s: float) -> None:
    author = Author(network, "attic")
    older, newer = author.says(b"old", at_unix_s=unix_s - 1), author.says(b"new", at_unix_s=unix_s)
    assert table.learn(newer, 0.0, unix_s)
    assert not table.learn(older, 0.0, unix_s)
    assert not table.learn(newer, 0.0, unix_s)
    assert said(table, unix_s) == [b"new"]
    other = Notices(network.membership())
    assert other.learn(older, 0.0, unix_s) and other.learn(newer, 0.0, unix_s)
    assert other.all() == table.all()


def test_what_is_taken_back_does_not_come_back(network: Any, table: Notices, unix_s: float) -> None:
    """Not by an old copy, and not when the taking back is forgotten: the copy has ended before."""
    author = Author(network, "attic")
    old, back = author.says(b"says", at_unix_s=unix_s), author.says(b"", at_unix_s=unix_s + 1)
    table.learn(back, 0.0, unix_s + 1)
    assert not table.learn(old, 1.0, unix_s + 2)
    ended = unix_s + 2 + NOTICE_S + CLOCK_TOLERANCE_S
    table.forget_ended(ended - 2)
    assert len(table) == 1
    table.forget_ended(ended)
    assert len(table) == 0
    assert not table.learn(old, 2.0, ended)
    assert said(table, ended) == []


def test_a_silent_author_is_forgotten_in_the_end(network: Any, table: Notices, unix_s: float) -> None:
    author = Author(network, "attic")
    table.learn(author.says(b"says", at_unix_s=unix_s), 0.0, unix_s)
    assert said(table, unix_s + NOTICE_S) == [b"says"]
    assert said(table, unix_s + NOTICE_S + CLOCK_TOLERANCE_S + 1) == []


def test_clocks_may_be_wrong(network: Any, table: Notices, unix_s: float) -> None:
    author = Author(network, "attic")
    early = author.says(b"early", at_unix_s=unix_s + CLOCK_TOLERANCE_S + 10)
    assert not table.learn(early, 0.0, unix_s)
    assert table.learn(author.says(b"soon", at_unix_s=unix_s + CLOCK_TOLERANCE_S - 10), 0.0, unix_s)
    # What this node took in while its own clock was wrong is in nobody's way when that is right again.
    table.learn(early, 0.0, unix_s + 20)
    assert said(table, unix_s) == []
    assert table.learn(author.says(b"now", at_unix_s=unix_s), 0.0, unix_s)
    assert said(table, unix_s) == [b"now"]


def test_who_may_say_something(network: Any, table: Notices, unix_s: float) -> None:
    edge = Author(network, "edge", Role.EDGE)
    with pytest.raises(Refused, match="without the role origin"):
        table.learn(edge.says(b"says", at_unix_s=unix_s), 0.0, unix_s)
    with pytest.raises(StateError, match="without the role origin"):
        edge.notices.say(edge.key, [b"says"], unix_s)
    assert table.learn(edge.says(b"", at_unix_s=unix_s), 0.0, unix_s)
    assert said(table, unix_s) == []


def test_forged_and_foreign_ones_are_refused(network: Any, table: Notices, unix_s: float) -> None:
    attic, den = Author(network, "attic"), Author(network, "den")
    forged = make_notice(den.key, attic.chain, 0, int(unix_s * MS), b"says")
    with pytest.raises(Refused, match="did not sign"):
        table.learn(forged, 0.0, unix_s)
    stranger = type(network)()
    stranger.owner = network.key("another owner")
    foreign = Author(stranger, "attic").says(b"says", at_unix_s=unix_s)
    with pytest.raises(Refused, match="another network"):
        table.learn(foreign, 0.0, unix_s)
    with pytest.raises(StateError, match="in its own name"):
        attic.notices.say(den.key, [b"says"], unix_s)
    assert len(table) == 0


def test_a_revoked_author_says_nothing(network: Any, table: Notices, unix_s: float) -> None:
    author = Author(network, "attic")
    notice = author.says(b"says", at_unix_s=unix_s)
    table.learn(notice, 0.0, unix_s)
    table.membership.revoke(network.owner, author.key.node_id, int(unix_s))
    assert said(table, unix_s) == []
    table.forget_ended(unix_s)
    assert len(table) == 0
    assert not table.learn(notice, 0.0, unix_s)  # a neighbour that has not heard of it is no forger


def test_a_claim_that_ends_ends_what_it_says(network: Any, table: Notices, unix_s: float) -> None:
    author = Author(network, "attic")
    ends = float(author.chain.claim.not_after)
    table.learn(author.says(b"says", at_unix_s=ends - 10), 0.0, ends - 10)
    assert said(table, ends - 1) == [b"says"]
    assert said(table, ends + CLOCK_TOLERANCE_S + 1) == []


def test_saying_again_costs_nothing_until_it_is_old(network: Any, unix_s: float) -> None:
    author = Author(network, "attic")
    mine = author.notices
    assert mine.say(author.key, [b"a", b"b"], unix_s)
    assert not mine.say(author.key, [b"a", b"b"], unix_s + 60)
    first = {notice.slot: notice.at_unix_ms for notice in mine.all()}
    assert mine.say(author.key, [b"a", b"c"], unix_s + 60)
    assert [notice.at_unix_ms - first[notice.slot] for notice in mine.all()] == [0, 60 * MS]
    assert mine.say(author.key, [b"a", b"c"], unix_s + REPEAT_S)
    assert mine.say(author.key, [], unix_s + REPEAT_S + 1)
    assert said(mine, unix_s + REPEAT_S + 1) == [] and len(mine) == 2
    assert not mine.say(author.key, [], unix_s + 3 * REPEAT_S)  # what is taken back is not repeated


def test_a_clock_that_stands_still_or_goes_back(network: Any, unix_s: float) -> None:
    author = Author(network, "attic")
    mine = author.notices
    for payload in (b"a", b"b", b"c"):
        mine.say(author.key, [payload], unix_s)
    [notice] = mine.all()
    assert notice.at_unix_ms == int(unix_s * MS) + 2
    mine.say(author.key, [b"d"], unix_s - 60)
    assert mine.all()[0].version > notice.version
    # A clock that was a year ahead is not what everybody has to wait for.
    year = 365 * 86_400
    mine.restore([author.says(b"e", at_unix_s=unix_s + year).data])
    assert mine.say(author.key, [b"f"], unix_s)
    assert mine.all()[0].at_unix_ms == int(unix_s * MS)


def test_a_node_that_lost_its_disk_takes_its_past_back(network: Any, unix_s: float) -> None:
    author = Author(network, "attic")
    before = author.says(b"before", 3, unix_s)
    assert author.notices.learn(before, 0.0, unix_s)
    assert author.notices.say(author.key, [b"now"], unix_s + 1)
    assert said(author.notices, unix_s + 1) == [b"now"]


def test_an_author_that_speaks_too_fast_is_not_listened_to(
    network: Any, table: Notices, unix_s: float
) -> None:
    author = Author(network, "attic")
    most = int(PACE_BURST_S / PACE_S) + 1
    taken = [
        table.learn(author.says(b"x", at_unix_s=unix_s + at), 0.0, unix_s + at) for at in range(most + 5)
    ]
    assert sum(taken) == most and table.paced == 5
    assert table.learn(Author(network, "den").says(b"y", at_unix_s=unix_s), 0.0, unix_s)
    assert table.learn(author.says(b"z", at_unix_s=unix_s + 200), 2 * PACE_S, unix_s + 200)


def test_of_too_many_all_keep_the_same(network: Any, unix_s: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notices_module, "NOTICES_MAX", 4)
    authors = [Author(network, name) for name in ("attic", "cellar", "den")]
    told = [author.says(b"x", slot, unix_s) for author in authors for slot in range(3)]
    tables = []
    for order in (told, told[::-1]):
        table = Notices(network.membership())
        for notice in order:
            table.learn(notice, 0.0, unix_s)
        tables.append([notice.rank for notice in table.all()])
    assert tables[0] == tables[1] == sorted(notice.rank for notice in told)[:4]


def test_of_too_much_own_words_stay(network: Any, unix_s: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notices_module, "NOTICES_BYTES_MAX", 3000)
    author = Author(network, "attic")
    for name in ("cellar", "den", "loft", "shed"):
        author.notices.learn(Author(network, name).says(bytes(500), 0, unix_s), 0.0, unix_s)
    assert 0 < len(author.notices) < 4
    author.notices.say(author.key, [b""] * (SLOTS - 1) + [b"mine"], unix_s)
    assert b"mine" in said(author.notices, unix_s)


def test_what_is_kept_is_there_after_a_restart(network: Any, table: Notices, unix_s: float) -> None:
    author = Author(network, "attic")
    table.learn(author.says(b"says", at_unix_s=unix_s), 0.0, unix_s)
    again = Notices(Membership.restore(table.membership.state()))
    assert again.restore([notice.data for notice in table.all()] + [b"damaged"]) == 1
    assert again.all() == table.all() and said(again, unix_s) == [b"says"]

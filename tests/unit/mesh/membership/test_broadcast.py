"""Announcing and fetching."""

from mesh.membership.broadcast import (
    ANNOUNCE_EVERY_S,
    ANNOUNCE_PATIENT_S,
    ANNOUNCE_S,
    FETCH_AFTER_S,
    FETCH_AGAIN_S,
    FETCHES_MAX,
    MISSING_MAX,
    NEVER,
    SECOND_PATIENT_S,
    SECOND_S,
    SHARE_EVERY_S,
    URGENT_BURST,
    URGENT_PER_S,
    Broadcast,
)
from mesh.membership.neighbour import Neighbour

LOW, ME, HIGH = b"a" * 32, b"m" * 32, b"z" * 32


def neighbour(peer: bytes) -> Neighbour:
    made = Neighbour(peer, 0.0)
    made.active = True
    return made


def unknown(identity: int) -> bool:
    return False


def test_lower_key_announces_first() -> None:
    broadcast, low, high = Broadcast(ME), neighbour(LOW), neighbour(HIGH)
    broadcast.announce(high, [1], False, 0.0)
    broadcast.announce(low, [1], False, 0.0)
    assert broadcast.announcements(ANNOUNCE_S) == [(high, [1])]
    assert broadcast.announcements(ANNOUNCE_PATIENT_S) == [(low, [1])]
    broadcast.settle()
    assert broadcast.due == NEVER


def test_announcements_share_messages() -> None:
    broadcast, high = Broadcast(ME), neighbour(HIGH)
    broadcast.announce(high, [1], False, 0.0)
    broadcast.announcements(ANNOUNCE_S)
    broadcast.settle()
    broadcast.announce(high, [2], False, ANNOUNCE_S)
    broadcast.announce(high, [3], False, ANNOUNCE_S + 0.1)
    assert broadcast.due == ANNOUNCE_S + ANNOUNCE_EVERY_S
    assert broadcast.announcements(broadcast.due) == [(high, [2, 3])]


def test_patient_pushes_share_messages() -> None:
    broadcast, low, high = Broadcast(ME), neighbour(LOW), neighbour(HIGH)
    broadcast.share(high, [1], False, 0.0)
    assert broadcast.due == 0.0
    assert broadcast.shared_pushes(0.0) == [(high, [1], False)]
    broadcast.settle()
    broadcast.share(high, [2], False, 0.01)
    broadcast.share(high, [3, 4], False, 0.02)
    broadcast.share(low, [5], True, 0.03)
    broadcast.has(high, 3)
    assert broadcast.shared_pushes(0.03) == [(low, [5], True)]
    assert broadcast.due == 0.03
    broadcast.settle()
    assert broadcast.due == SHARE_EVERY_S
    assert broadcast.shared_pushes(SHARE_EVERY_S) == [(high, [2, 4], False)]


def test_who_announced_it_gets_no_patient_push() -> None:
    broadcast, high = Broadcast(ME), neighbour(HIGH)
    broadcast.announced(high, [1], False, unknown, 0.0)
    broadcast.share(high, [1], False, 0.0)
    assert broadcast.shared_pushes(1.0) == []


def test_urgent_is_pushed_sooner() -> None:
    broadcast, low, high = Broadcast(ME), neighbour(LOW), neighbour(HIGH)
    broadcast.announce(high, [1], True, 0.0)
    broadcast.announce(low, [1], True, 0.0)
    assert broadcast.second_pushes(SECOND_S) == [(high, [1])]
    assert broadcast.second_pushes(SECOND_PATIENT_S) == [(low, [1])]


def test_who_has_it_is_not_told() -> None:
    broadcast, high = Broadcast(ME), neighbour(HIGH)
    broadcast.announce(high, [1, 2], True, 0.0)
    broadcast.has(high, 1)
    assert broadcast.second_pushes(1.0) == [(high, [2])]
    broadcast.announced(high, [3], False, unknown, 1.0)
    broadcast.announce(high, [3], False, 1.0)
    assert broadcast.announcements(9.0) == []
    broadcast.announce(high, [4], False, 9.0)
    broadcast.announced(high, [4], False, lambda identity: True, 9.0)
    assert broadcast.announcements(20.0) == []


def test_urgency_is_rationed() -> None:
    broadcast = Broadcast(ME)
    assert broadcast.may_be_urgent(int(URGENT_BURST), 0.0)
    assert not broadcast.may_be_urgent(1, 0.0)
    assert broadcast.may_be_urgent(1, 1.5 / URGENT_PER_S)


def test_missing_item_is_asked_for_in_turn_and_given_up() -> None:
    broadcast, low, high = Broadcast(ME), neighbour(LOW), neighbour(HIGH)
    links = {LOW: low, HIGH: high}
    broadcast.announced(low, [7], False, unknown, 0.0)
    broadcast.announced(high, [7], False, unknown, 0.0)
    asked = []
    now = FETCH_AFTER_S
    while broadcast.missing:
        asked += [(peer, identities) for peer, identities, _ in broadcast.fetches(links, now)]
        broadcast.settle()
        now += FETCH_AGAIN_S
    assert asked == [(low, [7]), (high, [7])] * (FETCHES_MAX // 2)
    assert broadcast.due == NEVER


def test_arrived_item_is_not_asked_for() -> None:
    broadcast, low = Broadcast(ME), neighbour(LOW)
    broadcast.announced(low, [7], False, unknown, 0.0)
    broadcast.arrived(7)
    assert broadcast.missing == 0 and broadcast.due == NEVER


def test_lost_source_is_no_source() -> None:
    broadcast, low = Broadcast(ME), neighbour(LOW)
    broadcast.announced(low, [7], False, unknown, 0.0)
    assert broadcast.fetches({}, 1.0) == [] and broadcast.missing == 0


def test_neighbour_that_is_always_first_is_grafted() -> None:
    broadcast, low = Broadcast(ME), neighbour(LOW)
    low.eager = False
    grafts = []
    for identity in range(4):
        broadcast.announced(low, [identity], False, unknown, float(identity))
        grafts += [graft for *_, graft in broadcast.fetches({LOW: low}, identity + FETCH_AFTER_S)]
        broadcast.arrived(identity)
    assert grafts == [False, False, False, True] and low.eager


def test_missing_items_are_bounded() -> None:
    broadcast, low = Broadcast(ME), neighbour(LOW)
    broadcast.announced(low, list(range(MISSING_MAX + 10)), True, unknown, 0.0)
    assert broadcast.missing == MISSING_MAX

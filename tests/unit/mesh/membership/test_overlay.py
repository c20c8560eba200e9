"""HyParView's views of one node, message by message."""

from random import Random

from mesh.membership.message import (
    Adopt,
    Adopted,
    ForwardJoin,
    Join,
    Part,
    Shuffle,
    Shuffled,
    parse_message_untrusted,
)
from mesh.membership.outbox import Connect, Outbox, Release, Send
from mesh.membership.overlay import (
    ACTIVE_LARGE,
    ACTIVE_MAX,
    CONNECT_S,
    IDLE_LINK_S,
    LINKS_MAX,
    PASSIVE_MAX,
    REPAIR_S,
    SHUFFLE_S,
    SHUN_S,
    Overlay,
)


def node(number: int) -> bytes:
    return number.to_bytes(32, "big")


class Views:
    """An overlay of node 0 and what it said."""

    def __init__(self, population: int = 100) -> None:
        self.outbox = Outbox()
        self.overlay = Overlay(node(0), Random(1), self.outbox, lambda peer: peer != node(666), 0.0)
        self.overlay.population = population

    def said(self) -> list[tuple[int, object]]:
        found: list[tuple[int, object]] = []
        for item in self.outbox.items:
            what = parse_message_untrusted(item.data) if isinstance(item, Send) else type(item)
            found.append((int.from_bytes(item.peer, "big"), what))
        self.outbox.items = []
        return found

    def neighbours(self, count: int) -> None:
        for number in range(1, count + 1):
            self.overlay.activate(self.overlay.link_up(node(number), True, 0.0), 0.0)
        self.said()


def test_first_link_is_joined_until_adopted() -> None:
    views = Views()
    seed = views.overlay.link_up(node(1), False, 0.0)
    assert views.said() == [(1, Join())]
    views.overlay.on_deadline(REPAIR_S)
    assert views.said() == [(1, Adopt(True))]
    views.overlay.on_adopted(seed, Adopted([node(5), node(0)]), 2.0)
    assert seed.active and list(views.overlay.passive) == [node(5)]


def test_join_is_taken_and_forwarded_once_in_a_while() -> None:
    views = Views()
    views.neighbours(2)
    joiner = views.overlay.link_up(node(9), True, 0.0)
    views.overlay.on_join(joiner, 0.0)
    said = views.said()
    assert joiner.active
    assert [who for who, what in said if isinstance(what, ForwardJoin)] == [1, 2]
    assert [who for who, what in said if isinstance(what, Adopted)] == [9]
    views.overlay.on_join(joiner, 1.0)
    assert all(isinstance(what, Adopted) for _, what in views.said())


def test_join_makes_room() -> None:
    views = Views()
    views.neighbours(ACTIVE_LARGE)
    views.overlay.on_join(views.overlay.link_up(node(9), True, 0.0), 0.0)
    assert len(views.overlay.active) == ACTIVE_LARGE
    assert sum(what == Part() for _, what in views.said()) == 1


def test_walk_ends_in_a_request() -> None:
    views = Views()
    views.neighbours(2)
    first = views.overlay.active[node(1)]
    views.overlay.on_forward_join(first, ForwardJoin(node(9), 2), 0.0)
    assert views.said() == [(2, ForwardJoin(node(9), 1))]
    views.overlay.on_forward_join(first, ForwardJoin(node(9), 0), 0.0)
    assert views.said() == [(9, Connect)]
    views.overlay.link_up(node(9), True, 1.0)
    assert views.said() == [(9, Adopt(False))]


def test_full_view_refuses_unless_urgent() -> None:
    views = Views()
    views.neighbours(ACTIVE_LARGE)
    peer = views.overlay.link_up(node(9), True, 0.0)
    views.overlay.on_adopt(peer, Adopt(False), 0.0)
    assert views.said() == [(9, Part())]
    views.overlay.on_adopt(peer, Adopt(True), 0.0)
    assert peer.active and len(views.overlay.active) == ACTIVE_LARGE


def test_small_network_is_fully_meshed() -> None:
    views = Views(population=ACTIVE_MAX + 1)
    views.neighbours(ACTIVE_LARGE)
    peer = views.overlay.link_up(node(9), True, 0.0)
    views.overlay.on_adopt(peer, Adopt(False), 0.0)
    assert len(views.overlay.active) == ACTIVE_MAX


def test_stranger_on_a_new_link_is_asked() -> None:
    views = Views()
    views.neighbours(1)
    views.overlay.link_up(node(9), False, 0.0)
    assert views.said() == [(9, Adopt(True))]


def test_lost_neighbour_is_replaced_from_the_passive_view() -> None:
    views = Views()
    views.neighbours(2)
    views.overlay.learn(node(9))
    assert views.overlay.link_down(node(1)) is not None
    views.overlay.on_deadline(REPAIR_S)
    assert views.said() == [(9, Connect)]
    views.overlay.on_deadline(REPAIR_S + CONNECT_S)
    assert node(9) not in views.overlay.passive


def test_passive_view_is_bounded_and_usable() -> None:
    views = Views()
    for number in range(1, 100):
        views.overlay.learn(node(number))
    views.overlay.learn(node(666))
    views.overlay.learn(node(0))
    assert len(views.overlay.passive) == PASSIVE_MAX
    assert node(666) not in views.overlay.passive and node(0) not in views.overlay.passive


def test_shuffle_walks_and_comes_back_along_its_path() -> None:
    views = Views()
    views.neighbours(2)
    first = views.overlay.active[node(1)]
    views.overlay.on_shuffle(first, Shuffle(1, [node(7), node(1)], [node(50)]), 0.0)
    assert views.said() == [(2, Shuffle(0, [node(7), node(1), node(0)], [node(50)]))]
    views.overlay.on_shuffle(first, Shuffle(0, [node(7), node(1)], [node(50)]), 0.0)
    ((who, answer),) = views.said()
    assert who == 1 and isinstance(answer, Shuffled) and answer.path == [node(7)]
    assert node(50) in views.overlay.passive
    views.overlay.on_shuffled(Shuffled([node(3), node(2)], [node(60)]), 0.0)
    assert views.said() == [(2, Shuffled([node(3)], [node(60)]))]
    views.overlay.on_shuffled(Shuffled([], [node(60)]), 0.0)
    assert node(60) in views.overlay.passive
    views.overlay.on_deadline(SHUFFLE_S)
    assert any(isinstance(what, Shuffle) for _, what in views.said())


def test_parted_peer_is_kept_in_mind_and_its_link_given_back() -> None:
    views = Views()
    views.neighbours(6)
    peer = views.overlay.active[node(1)]
    views.overlay.on_part(peer, 0.0)
    assert not peer.active and node(1) in views.overlay.passive
    views.overlay.on_deadline(IDLE_LINK_S)
    assert (1, Release) in views.said()


def test_heartbeat_of_a_stranger_is_answered_once_a_second() -> None:
    views = Views()
    views.neighbours(1)
    peer = views.overlay.link_up(node(9), True, 0.0)
    views.overlay.on_stranger(peer, 5.0)
    views.overlay.on_stranger(peer, 5.5)
    assert views.said() == [(9, Part())]


def test_shunned_peer_stays_away_for_a_while() -> None:
    views = Views()
    views.neighbours(2)
    views.overlay.shun(node(1), "flood", 0.0)
    views.overlay.link_up(node(1), True, SHUN_S - 1)
    assert views.said() == [(1, Release), (1, Release)]
    views.overlay.link_up(node(1), True, SHUN_S + 1)
    assert node(1) in views.overlay.links


def test_links_are_bounded() -> None:
    views = Views()
    for number in range(1, LINKS_MAX + 3):
        views.overlay.link_up(node(number), True, 0.0)
    assert len(views.overlay.links) == LINKS_MAX

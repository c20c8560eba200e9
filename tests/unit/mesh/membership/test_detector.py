"""Heartbeats and silence on one link."""

from random import Random

from mesh.membership import detector
from mesh.membership.detector import BUSY_S, DEAD_S, DEAD_SPREAD_S, IDLE_S, PROBES_MIN, SILENT_S, Finding
from mesh.membership.message import Beat, parse_message_untrusted
from mesh.membership.neighbour import Neighbour
from mesh.membership.outbox import Outbox, Send


class Link:
    def __init__(self, *, busy: bool = False, linked: bool = True) -> None:
        self.neighbour = Neighbour(b"p" * 32, 0.0)
        self.outbox = Outbox()
        self.busy, self.linked = busy, linked
        self.beats: list[tuple[float, bool]] = []

    def run(self, until: float, step: float = 0.05) -> list[tuple[float, Finding]]:
        found = []
        now = self.neighbour.due
        while now <= until:
            if self.busy:
                self.neighbour.busy_at = now
            finding = detector.look(self.neighbour, self.linked, self.outbox, Random(1), now)
            for item in self.outbox.items:
                assert isinstance(item, Send)
                message = parse_message_untrusted(item.data)
                assert isinstance(message, Beat)
                self.beats.append((round(now, 3), message.ask))
            self.outbox.items = []
            if finding is not Finding.FINE:
                found.append((now, finding))
            now = max(self.neighbour.due, now + step)
        return found


def test_idle_and_busy_links_beat_at_their_pace() -> None:
    for busy, interval in ((False, IDLE_S), (True, BUSY_S)):
        link = Link(busy=busy)
        for _ in range(10):
            link.run(link.neighbour.due)
            link.neighbour.heard = link.neighbour.due - 0.2
        gaps = [b - a for (a, _), (b, _) in zip(link.beats, link.beats[1:], strict=False)]
        assert gaps and all(interval - 0.5 <= gap <= interval + 0.1 for gap in gaps)


def test_silence_is_questioned_believed_and_given_up() -> None:
    for busy in (False, True):
        link = Link(busy=busy)
        (silent_at, silent), (dead_at, dead) = link.run(20.0)
        assert (silent, dead) == (Finding.SILENT, Finding.DEAD)
        assert SILENT_S <= silent_at <= SILENT_S + 0.7
        assert DEAD_S <= dead_at <= DEAD_S + DEAD_SPREAD_S + 1.0
        assert sum(ask for at, ask in link.beats if at < silent_at) >= PROBES_MIN


def test_a_peer_that_is_heard_again_is_fine() -> None:
    link = Link()
    link.run(5.5)
    link.neighbour.heard, link.neighbour.probes, link.neighbour.accused = 5.5, 0, 0
    assert link.run(11.0) == []


def test_broken_link_is_timed_without_questions() -> None:
    link = Link(linked=False)
    findings = [finding for _, finding in link.run(20.0)]
    assert findings == [Finding.SILENT, Finding.DEAD]
    assert not any(ask for _, ask in link.beats)


def test_answer_is_a_heartbeat() -> None:
    link = Link()
    detector.answer(link.neighbour, link.outbox, 1.0)
    assert len(link.outbox.items) == 1 and link.neighbour.sent == 1.0

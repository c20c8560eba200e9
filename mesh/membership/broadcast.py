"""Plumtree: push along a tree that grows by itself, announce on the other links, fetch what the tree lost.

Source: Leitao, Pereira, Rodrigues, "Epidemic Broadcast Trees", 2007. Differences, because links lose messages
now and then without being broken: a lost item is fetched without changing the tree; only a neighbour that is
repeatedly first is asked to push (graft). Announcements, and pushes of what is not urgent, wait so as to
share a message. What is urgent and rare is not announced but pushed on every link, off the tree a moment
later: many of those pushes turn out to be needless before they are made, and a lost one costs no round trip.
"""

from collections.abc import Callable

from mesh.membership.message import BATCH_MAX
from mesh.membership.neighbour import Neighbour
from mesh.model import NodeId

SECOND_S = 0.02  # before an urgent item is pushed off the tree, by the node with the lower key
SECOND_PATIENT_S = 0.05  # and by the one with the higher: half a hop later, so that often one of them does it
SHARE_EVERY_S = 0.1  # at most ten pushes a second a link of what is not urgent: framing is half of one alone
URGENT_PER_S = 4.0  # urgent items passed on in the long run; more are announced like the rest: 5 kB/s
URGENT_BURST = 100.0
ANNOUNCE_S = 0.1  # first announcement after quiet: long enough that the push usually came first
ANNOUNCE_PATIENT_S = 0.3  # by the node with the higher key, likewise
ANNOUNCE_EVERY_S = 1.0  # at most one announcement a second a link: they would be most of the messages
FETCH_AFTER_S = 0.25  # a push usually arrives in this time after the announcement, or upstream has fetched
FETCH_OLD_AFTER_S = 0.5  # found by comparing ranges: most of it is still spreading
FETCH_AGAIN_S = 0.3  # a round trip on nearly all paths; then ask the next neighbour that has it
FETCHES_MAX = 6  # then leave it to the next comparison
MISSING_MAX = 8 * 1024  # items waited for: a whole directory at a joining node
SOURCES_MAX = 4  # neighbours remembered for each missing item
MISS_WEIGHT = 2  # a fetched item counts twice a pushed one: at a third lost the tree still stands
NEVER = float("inf")
GRAFT_AT = 8  # four items in a row that only came when asked for


class _Missing:
    """An item that a neighbour has and we have not."""

    __slots__ = ("due", "old", "sources", "tries")

    def __init__(self, due: float, source: NodeId, old: bool) -> None:
        self.due = due
        self.sources = [source]
        self.tries = 0
        self.old = old


class _Queue:
    """Ids waiting to be sent to neighbours: `delay_s` after the first, and at most once in `every_s`."""

    __slots__ = ("_delay_s", "_every_s", "_waiting", "due", "sent_at")

    def __init__(self, delay_s: float, every_s: float) -> None:
        self._delay_s = delay_s
        self._every_s = every_s
        self._waiting: dict[Neighbour, list[int]] = {}
        self.due = NEVER
        self.sent_at = -NEVER

    def add(self, neighbour: Neighbour, identities: list[int], now: float) -> None:
        waiting = self._waiting.get(neighbour)
        if waiting is None:
            self._waiting[neighbour] = identities
        else:
            waiting += identities
        if self.due == NEVER:
            self.due = max(now + self._delay_s, self.sent_at + self._every_s)

    def discard(self, neighbour: Neighbour, identity: int) -> None:
        waiting = self._waiting.get(neighbour)
        if waiting is not None and identity in waiting:
            waiting.remove(identity)
            if not waiting:
                del self._waiting[neighbour]
                if not self._waiting:
                    self.due = NEVER

    def take(self, now: float) -> list[tuple[Neighbour, list[int]]]:
        if now < self.due:
            return []
        self.due, self.sent_at = NEVER, now
        waiting, self._waiting = self._waiting, {}
        for neighbour in waiting:
            neighbour.told.clear()
        return [
            (neighbour, identities[start : start + BATCH_MAX])
            for neighbour, identities in waiting.items()
            for start in range(0, len(identities), BATCH_MAX)
        ]


class Broadcast:
    """Announcements to make and items to fetch; what items are is not known here, only their ids."""

    def __init__(self, node: NodeId) -> None:
        self._node = node
        self._missing: dict[int, _Missing] = {}
        self._fetch_at = NEVER
        self._shared = (_Queue(0.0, SHARE_EVERY_S), _Queue(0.0, SHARE_EVERY_S))
        self._second = (_Queue(SECOND_S, 0.0), _Queue(SECOND_PATIENT_S, 0.0))
        self._announcing = (
            _Queue(ANNOUNCE_S, ANNOUNCE_EVERY_S),
            _Queue(ANNOUNCE_PATIENT_S, ANNOUNCE_EVERY_S),
        )
        self._urgent = URGENT_BURST
        self._urgent_at = 0.0
        self.due = NEVER  # when anything here is next due

    @property
    def missing(self) -> int:
        """How many items are waited for."""
        return len(self._missing)

    def settle(self) -> None:
        """Set `due` after what was due was taken; in between it may be early, never late."""
        queues = (*self._shared, *self._second, *self._announcing)
        self.due = min(self._fetch_at, *[queue.due for queue in queues])

    def may_be_urgent(self, count: int, now: float) -> bool:
        """Whether so many more urgent items are within the allowance; spends it."""
        left = min(URGENT_BURST, self._urgent + (now - self._urgent_at) * URGENT_PER_S) - count
        self._urgent_at = now
        self._urgent = left if left >= 0 else left + count
        return left >= 0

    def share(self, neighbour: Neighbour, identities: list[int], late: bool, now: float) -> None:
        """Push these on the tree with what else comes in a moment; `late` items apart from others."""
        told = neighbour.told
        fresh = [identity for identity in identities if identity not in told]
        if fresh:
            queue = self._shared[late]
            queue.add(neighbour, fresh, now)
            if queue.due < self.due:
                self.due = queue.due

    def shared_pushes(self, now: float) -> list[tuple[Neighbour, list[int], bool]]:
        """What to push on the tree now, and whether it is late; empty before it is due."""
        return [
            (neighbour, identities, late)
            for late in (False, True)
            for neighbour, identities in self._shared[late].take(now)
        ]

    def announce(self, neighbour: Neighbour, identities: list[int], urgent: bool, now: float) -> None:
        """Tell a neighbour off the tree of these, or if urgent push them, unless it tells us first."""
        told = neighbour.told
        fresh = [identity for identity in identities if identity not in told]
        if fresh:
            queues = self._second if urgent else self._announcing
            queue = queues[neighbour.id < self._node]
            queue.add(neighbour, fresh, now)
            if queue.due < self.due:
                self.due = queue.due

    def second_pushes(self, now: float) -> list[tuple[Neighbour, list[int]]]:
        """What to push off the tree now; empty before it is due."""
        return self._second[0].take(now) + self._second[1].take(now)

    def announcements(self, now: float) -> list[tuple[Neighbour, list[int]]]:
        """What to announce now, in batches; empty before it is due."""
        return self._announcing[0].take(now) + self._announcing[1].take(now)

    def has(self, neighbour: Neighbour, identity: int) -> None:
        """A neighbour showed that it has an item: it need not be told."""
        for queue in self._shared:
            queue.discard(neighbour, identity)
        patient = neighbour.id < self._node
        self._second[patient].discard(neighbour, identity)
        self._announcing[patient].discard(neighbour, identity)

    def announced(
        self, neighbour: Neighbour, identities: list[int], old: bool, known: Callable[[int], bool], now: float
    ) -> None:
        """A neighbour has these."""
        for identity in identities:
            if known(identity):
                self.has(neighbour, identity)
                continue
            if len(neighbour.told) < BATCH_MAX:
                neighbour.told.add(identity)
            entry = self._missing.get(identity)
            if entry is not None:
                if len(entry.sources) < SOURCES_MAX and neighbour.id not in entry.sources:
                    entry.sources.append(neighbour.id)
            elif len(self._missing) < MISSING_MAX:
                due = now + (FETCH_OLD_AFTER_S if old else FETCH_AFTER_S)
                self._missing[identity] = _Missing(due, neighbour.id, old)
                if due < self._fetch_at:
                    self._fetch_at = due
                    self.due = min(self.due, due)

    def arrived(self, identity: int) -> None:
        """An item came, one way or another."""
        if self._missing.pop(identity, None) is not None and not self._missing:
            self._fetch_at = NEVER
            self.settle()

    def fetches(self, links: dict[NodeId, Neighbour], now: float) -> list[tuple[Neighbour, list[int], bool]]:
        """Whom to ask for what now, and whether to graft that neighbour into the tree."""
        if now < self._fetch_at:
            return []
        asked: dict[NodeId, list[int]] = {}
        grafts: dict[NodeId, bool] = {}
        given_up = []
        for identity, entry in self._missing.items():
            if entry.due > now:
                continue
            sources = [source for source in entry.sources if source in links]
            if not sources or entry.tries >= FETCHES_MAX:
                given_up.append(identity)
                continue
            source = sources[entry.tries % len(sources)]
            entry.tries += 1
            entry.due = now + FETCH_AGAIN_S
            asked.setdefault(source, []).append(identity)
            if entry.tries == 1 and not entry.old:
                grafts[source] = self._miss(links[source]) or grafts.get(source, False)
        for identity in given_up:
            del self._missing[identity]
        self._fetch_at = min((entry.due for entry in self._missing.values()), default=NEVER)
        return [
            (links[source], identities[start : start + BATCH_MAX], grafts.get(source, False))
            for source, identities in asked.items()
            for start in range(0, len(identities), BATCH_MAX)
        ]

    def _miss(self, neighbour: Neighbour) -> bool:
        neighbour.misses += MISS_WEIGHT
        if neighbour.misses < GRAFT_AT or not neighbour.active:
            return False
        neighbour.misses = 0
        neighbour.eager = True
        return True

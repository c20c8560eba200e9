"""Plumtree: push along a tree that grows by itself, announce on the other links, fetch what the tree lost.

Source: Leitao, Pereira, Rodrigues, "Epidemic Broadcast Trees", 2007. Differences, because links lose messages
now and then without being broken: a lost item is fetched without changing the tree; only a neighbour that is
repeatedly first is asked to push (graft). Announcements wait so as to share a message, the longer the more
there is to announce.
"""

from collections.abc import Callable

from mesh.membership.message import BATCH_MAX
from mesh.membership.neighbour import Neighbour
from mesh.model import NodeId

ANNOUNCE_S = 0.04  # first announcement after quiet: long enough that the push usually came first
ANNOUNCE_EVERY_S = 0.2  # at most five announcements a second a link: they are most of the messages
FETCH_AFTER_S = 0.05  # a push still on its way usually arrives in this time after the announcement
FETCH_OLD_AFTER_S = 0.5  # found by comparing ranges: most of it is still spreading
FETCH_AGAIN_S = 0.15  # a round trip on most paths; then ask the next neighbour that has it
FETCHES_MAX = 6  # then leave it to the next comparison
MISSING_MAX = 8 * 1024  # items waited for: a whole directory at a joining node
SOURCES_MAX = 4  # neighbours remembered for each missing item
MISS_WEIGHT = 2  # a fetched item counts twice a pushed one: at a third lost the tree still stands
GRAFT_AT = 8  # four items in a row that only came when asked for


class _Missing:
    """An item that a neighbour has and we have not."""

    __slots__ = ("due", "old", "sources", "tries")

    def __init__(self, due: float, source: NodeId, old: bool) -> None:
        self.due = due
        self.sources = [source]
        self.tries = 0
        self.old = old


class Broadcast:
    """Announcements to make and items to fetch; what items are is not known here, only their ids."""

    def __init__(self) -> None:
        self._missing: dict[int, _Missing] = {}
        self._fetch_at: float | None = None
        self._announce_at: float | None = None
        self._announced_at = float("-inf")
        self._announcing: list[Neighbour] = []

    @property
    def missing(self) -> int:
        """How many items are waited for."""
        return len(self._missing)

    def deadline(self) -> float | None:
        """When announcements or fetches are next due."""
        announce, fetch = self._announce_at, self._fetch_at
        if announce is None or (fetch is not None and fetch < announce):
            return fetch
        return announce

    def announce(self, neighbour: Neighbour, identities: list[int], now: float) -> None:
        """Tell a neighbour of these at the next flush."""
        told = neighbour.told
        fresh = [identity for identity in identities if identity not in told] if told else identities
        if not fresh:
            return
        if not neighbour.lazy:
            self._announcing.append(neighbour)
        neighbour.lazy.extend(fresh)
        if self._announce_at is None:
            self._announce_at = max(now + ANNOUNCE_S, self._announced_at + ANNOUNCE_EVERY_S)

    def announcements(self, now: float) -> list[tuple[Neighbour, list[int]]]:
        """What to announce now, in batches; empty before it is due."""
        if self._announce_at is None or now < self._announce_at:
            return []
        self._announce_at = None
        self._announced_at = now
        found = []
        for neighbour in self._announcing:
            for start in range(0, len(neighbour.lazy), BATCH_MAX):  # empty: announced to us meanwhile
                found.append((neighbour, neighbour.lazy[start : start + BATCH_MAX]))
            neighbour.lazy = []
            neighbour.told.clear()
        self._announcing = []
        return found

    def announced(
        self, neighbour: Neighbour, identities: list[int], old: bool, known: Callable[[int], bool], now: float
    ) -> None:
        """A neighbour has these."""
        for identity in identities:
            if known(identity):
                if identity in neighbour.lazy:
                    neighbour.lazy.remove(identity)
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
                if self._fetch_at is None or due < self._fetch_at:
                    self._fetch_at = due

    def arrived(self, identity: int) -> None:
        """An item came, one way or another."""
        if self._missing.pop(identity, None) is not None and not self._missing:
            self._fetch_at = None

    def fetches(self, links: dict[NodeId, Neighbour], now: float) -> list[tuple[Neighbour, list[int], bool]]:
        """Whom to ask for what now, and whether to graft that neighbour into the tree."""
        if self._fetch_at is None or now < self._fetch_at:
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
        self._fetch_at = min((entry.due for entry in self._missing.values()), default=None)
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

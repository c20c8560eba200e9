"""A network of nodes with viewers as it truly is: who serves whom, over which copies, what nodes tell.

All policies see the same arrivals and are told the same, late: a node tells its load at most every TELL_S and
only what is worth telling, as a mean over that time, and others know it after the gossip's delay.
"""

from bisect import bisect
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import accumulate
from random import Random

from viewers_places import AUDIENCE, NODES, Places, Spot, line_bps

from mesh.directory.facts import Load, is_worth_telling
from mesh.routing.parents import DEPTH_MAX
from mesh.routing.viewer_costs import apart_km

TELL_S = 5.0  # the design's: load at most as often
GOSSIP_S = (0.3, 1.0)  # until others know: 0.6 s median and 1.0 s p99, by `scripts/sim --report`
DEATH_S = 8.0  # until others know of a node that died
LINGER_S = 30.0  # a copy that nobody watches
REASK_S = 300.0  # how often a player asks again (HLS content steering's default TTL)
WATCH_S = 240.0  # mean
REACHABLE_SHARE = 0.65  # of nodes, for viewers: dialled, forwarded or mapped
TLS_SHARE = 0.85  # of those, and of viewers
STREAMS = 80
BITRATES_BPS = (2_500_000, 4_000_000, 6_000_000)
HOME_SHARE = 0.6  # of a stream's viewers, from the region of its origin
LINK_SHARE = 0.5  # of viewers open the link that names the origin; the others any node's


@dataclass(slots=True)
class SimNode:
    """One node, as it truly is."""

    index: int
    spot: Spot
    budget_bps: int
    reachable: bool
    tls: bool
    idle_cpu: float
    used_bps: int = 0
    up: bool = True
    draining: bool = False
    viewers: int = 0
    told: Load | None = None
    before_bps: int = 0

    @property
    def id(self) -> bytes:
        return self.index.to_bytes(4, "big") * 8

    @property
    def cpu(self) -> float:
        return min(1.0, self.idle_cpu + 0.5 * self.used_bps / self.budget_bps)


@dataclass(frozen=True, slots=True)
class SimStream:
    index: int
    name: str
    origin: int
    bitrate_bps: int


@dataclass(slots=True)
class Copy:
    """A stream at a node: taken from `parent`, None at the origin."""

    depth: int
    parent: int | None
    viewers: int = 0
    children: int = 0


@dataclass(slots=True)
class SimViewer:
    """One viewer, from arrival to leaving."""

    number: int
    spot: Spot
    stream: SimStream
    tls: bool
    leaves_at: float
    leaves: bool = False  # has been served once, and is to be let go at the end
    node: int = -1
    since: float = 0.0
    left: int = -1  # the node before: to see it go back there


@dataclass(slots=True)
class Arrival:
    at: float
    viewer: SimViewer
    entry: int


@dataclass(frozen=True, slots=True)
class Flash:
    """Part of all viewers come for one stream, from one region, within seconds."""

    share: float
    region: str
    begins_s: float
    lasts_s: float


@dataclass(slots=True)
class World:
    """Nodes, streams, copies and viewers; time and what is due."""

    size: int
    seed: int
    now: float = 0.0
    nodes: list[SimNode] = field(init=False)
    streams: list[SimStream] = field(init=False)
    copies: list[dict[int, Copy]] = field(init=False)  # by stream: node to copy
    at_node: list[set[SimViewer]] | None = None
    on_load: Callable[[int, Load, float], None] = lambda index, load, measured_at: None
    on_carry: Callable[[SimStream, int, int | None], None] = lambda stream, index, depth: None
    on_node: Callable[[int], None] = lambda index: None
    _due: list[tuple[float, int, Callable[..., None], tuple[object, ...]]] = field(default_factory=list)
    _serial: int = 0
    _random: Random = field(init=False)

    def __post_init__(self) -> None:
        random = Random(f"nodes {self.seed}")
        places = Places(NODES)
        self.nodes = [
            SimNode(
                index,
                places.draw(random),
                line_bps(random),
                random.random() < REACHABLE_SHARE,
                random.random() < TLS_SHARE,
                random.uniform(0.02, 0.3),
            )
            for index in range(self.size)
        ]
        able = [node.index for node in self.nodes if node.budget_bps >= 3 * BITRATES_BPS[-1]]
        self.streams = [
            SimStream(number, f"stream-{number}", random.choice(able), random.choice(BITRATES_BPS))
            for number in range(STREAMS)
        ]
        self.copies = [{stream.origin: Copy(0, None)} for stream in self.streams]
        self._random = Random(f"gossip {self.seed}")

    def begin(self) -> None:
        """Everybody knows everybody and what they tell of themselves, with nobody watching yet."""
        for node in self.nodes:
            node.told = self._load(node)
            self.on_node(node.index)
            self.on_load(node.index, node.told, self.now)
            self.at(self._random.uniform(0, TELL_S), self._tell, node)
        for stream in self.streams:
            self.on_carry(stream, stream.origin, 0)

    def at(self, when: float, what: Callable[..., None], *arguments: object) -> None:
        self._serial += 1
        heappush(self._due, (when, self._serial, what, arguments))

    def pass_until(self, when: float) -> None:
        """Let all that is due happen."""
        due = self._due
        while due and due[0][0] <= when:
            self.now, _, what, arguments = heappop(due)
            what(*arguments)
        self.now = when

    def delay_s(self) -> float:
        return self._random.uniform(*GOSSIP_S)

    # --- viewers

    def has_room(self, node: SimNode, bps: int) -> bool:
        return node.used_bps + bps <= node.budget_bps

    def can_have(self, stream: SimStream, index: int) -> bool:
        """Whether a node has the stream, or a source that it asks for it has room."""
        copies = self.copies[stream.index]
        return index in copies or any(
            source.depth < DEPTH_MAX and self.has_room(self.nodes[other], stream.bitrate_bps)
            for other, source in copies.items()
        )

    def take(self, viewer: SimViewer, index: int) -> None:
        """A node serves a viewer from now on, and fetches the stream if it lacks it."""
        stream, node = viewer.stream, self.nodes[index]
        copies = self.copies[stream.index]
        copy = copies.get(index)
        if copy is None:
            copy = copies[index] = Copy(0, None)
            self._attach(stream, index, copy)
        copy.viewers += 1
        node.viewers += 1
        node.used_bps += stream.bitrate_bps
        viewer.left, viewer.node, viewer.since = viewer.node, index, self.now

    def let_go(self, viewer: SimViewer) -> None:
        node, stream = self.nodes[viewer.node], viewer.stream
        copy = self.copies[stream.index].get(viewer.node)
        if copy is None:
            return  # the node died in the meantime
        copy.viewers -= 1
        node.viewers -= 1
        node.used_bps -= stream.bitrate_bps
        self._maybe_idle(stream, viewer.node, copy)

    def _attach(self, stream: SimStream, index: int, copy: Copy) -> None:
        """The nearest source with room that is not below it, else the origin beyond its promise."""
        spot, copies = self.nodes[index].spot.at, self.copies[stream.index]
        best, best_km = stream.origin, float("inf")
        for other, source in copies.items():
            node = self.nodes[other]
            if (
                other != index
                and node.up
                and source.depth < DEPTH_MAX
                and self.has_room(node, stream.bitrate_bps)
            ):
                km = apart_km(spot, node.spot.at)
                if km < best_km and not self._is_below(stream, other, index):
                    best, best_km = other, km
        parent = copies[best]
        copy.parent, copy.depth = best, parent.depth + 1
        parent.children += 1
        self.nodes[best].used_bps += stream.bitrate_bps
        self.at(self.now + self.delay_s(), self._carries, stream, index)

    def _is_below(self, stream: SimStream, other: int, index: int) -> bool:
        copies, above = self.copies[stream.index], other
        for _ in range(16):
            copy = copies.get(above)
            if copy is None or copy.parent is None:
                return False
            if copy.parent == index:
                return True
            above = copy.parent
        return True

    def _carries(self, stream: SimStream, index: int) -> None:
        """What a node tells of a stream comes to the others."""
        copy = self.copies[stream.index].get(index)
        self.on_carry(stream, index, None if copy is None else copy.depth)

    def _maybe_idle(self, stream: SimStream, index: int, copy: Copy) -> None:
        if not copy.viewers and not copy.children and copy.parent is not None:
            self.at(self.now + LINGER_S, self._idle, stream, index, copy)

    def _idle(self, stream: SimStream, index: int, copy: Copy) -> None:
        copies = self.copies[stream.index]
        if copy.viewers or copy.children or copies.get(index) is not copy or copy.parent is None:
            return
        del copies[index]
        self._leave_parent(stream, copy)
        self.at(self.now + self.delay_s(), self._carries, stream, index)

    def _leave_parent(self, stream: SimStream, copy: Copy) -> None:
        if copy.parent is None:
            return
        parent = self.copies[stream.index].get(copy.parent)
        if parent is not None:
            parent.children -= 1
            self.nodes[copy.parent].used_bps -= stream.bitrate_bps
            self._maybe_idle(stream, copy.parent, parent)

    # --- nodes

    def stop(self, index: int, known_after_s: float) -> None:
        """A node is gone with all that it had; its children take other parents at once."""
        node = self.nodes[index]
        node.up, node.used_bps, node.viewers = False, 0, 0
        for stream in self.streams:
            copies = self.copies[stream.index]
            copy = copies.get(index)
            if copy is None or copy.parent is None:
                continue  # origins are not stopped here
            del copies[index]
            self._leave_parent(stream, copy)
            for child, below in list(copies.items()):
                if below.parent == index:
                    self._attach(stream, child, below)
            self.at(self.now + known_after_s, self._carries, stream, index)
        self.at(self.now + known_after_s, self.on_node, index)

    def start(self, index: int) -> None:
        """A node is back, empty."""
        node = self.nodes[index]
        node.up, node.draining = True, False
        self.at(self.now + self.delay_s(), self.on_node, index)

    def drain(self, index: int) -> None:
        self.nodes[index].draining = True
        self.at(self.now + self.delay_s(), self.on_node, index)

    # --- what is told

    def _tell(self, node: SimNode) -> None:
        self.at(self.now + TELL_S, self._tell, node)
        if not node.up:
            return
        load = self._load(node)
        if is_worth_telling(node.told, load):
            node.told = load
            self.at(self.now + self.delay_s(), self.on_load, node.index, load, self.now)

    def _load(self, node: SimNode) -> Load:
        """The uplink is a mean over TELL_S; who came since the middle of it is told as a reservation."""
        mean = (node.before_bps + node.used_bps) // 2
        more = -(-max(0, node.used_bps - mean) // BITRATES_BPS[1])
        node.before_bps = node.used_bps
        return Load(mean, node.budget_bps, round(node.cpu, 3), node.viewers, node.viewers, more)


def arrivals(world: World, count: int, rate: float, flash: Flash | None = None) -> Iterator[Arrival]:
    """Viewers as they come, the same for the same world, count, rate and flash: a Poisson process."""
    random = Random(f"viewers {world.seed}")
    audience = Places(AUDIENCE)
    entries = [node.index for node in world.nodes if node.reachable and node.tls]
    popularity = list(accumulate(1 / (rank + 1) for rank in range(STREAMS)))
    crowd = round(count * flash.share) if flash else 0
    sparse = _times(random, count - crowd, rate, 0.0)
    crowded = _times(random, crowd, crowd / flash.lasts_s, flash.begins_s) if flash else iter(())
    coming: defaultdict[bool, float] = defaultdict(lambda: float("inf"))
    for is_crowd, times in ((False, sparse), (True, crowded)):
        coming[is_crowd] = next(times, float("inf"))
    for number in range(count):
        of_crowd = coming[True] < coming[False]
        now = coming[of_crowd]
        coming[of_crowd] = next(crowded if of_crowd else sparse, float("inf"))
        if of_crowd:
            assert flash is not None
            stream, region = flash_stream(world, flash.region), flash.region
        else:
            stream = world.streams[bisect(popularity, random.random() * popularity[-1])]
            home = random.random() < HOME_SHARE
            region = world.nodes[stream.origin].spot.region if home else ""
        origin = world.nodes[stream.origin]
        by_link = random.random() < LINK_SHARE and origin.reachable
        viewer = SimViewer(
            number,
            audience.draw(random, region),
            stream,
            random.random() < TLS_SHARE,
            now + random.expovariate(1 / WATCH_S),
        )
        yield Arrival(now, viewer, stream.origin if by_link else random.choice(entries))


def flash_stream(world: World, region: str) -> SimStream:
    """The stream that the crowd comes for: the least popular one whose origin is in that region."""
    return next(
        stream for stream in reversed(world.streams) if world.nodes[stream.origin].spot.region == region
    )


def _times(random: Random, count: int, rate: float, begin: float) -> Iterator[float]:
    now = begin
    for _ in range(count):
        now += random.expovariate(rate)
        yield now

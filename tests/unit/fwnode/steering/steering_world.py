"""A directory made by hand, and a node that chooses by it."""

from types import SimpleNamespace
from typing import Any

from fwnode.steering.answers import Answers
from fwnode.steering.census import Census, Near, Own
from fwnode.steering.choosing import Choosing
from fwnode.steering.forwarded import Proxies, parse_networks
from media.deliver.http.request import FieldSet, Head, Request
from media.deliver.http.response import Response
from mesh.directory.facts import (
    KINDS,
    CarriedStream,
    CarriedStreams,
    Doors,
    Fact,
    Load,
    Place,
    Who,
    payload,
)
from mesh.geo.model import Located
from mesh.model import NodeId, Role

PROGRAM = "fwnode 0.1.0"
STREAM = "cam"
BITRATE_BPS = 2_000_000
IDLE = Load(0, 50_000_000, 0.1, 0, 0, 0)
BERLIN, PARIS, TOKYO = Located(52.5, 13.4, "DE"), Located(48.9, 2.4, "FR"), Located(35.7, 139.7, "JP")
PLACES = {"81.2.69.1": BERLIN, "89.160.20.1": PARIS, "216.160.83.1": TOKYO}


def key(name: str) -> NodeId:
    return name.encode().ljust(32, b".")


class World:
    """Records, links and roles as a mesh would have them, and the node "own"."""

    def __init__(self) -> None:
        self.node = key("own")
        self.records: dict[tuple[NodeId, int], Any] = {}
        self.nodes: dict[NodeId, None] = {}
        self.links: dict[NodeId, Near] = {}
        self.no_edges: set[NodeId] = set()
        self.faults: dict[NodeId, str] = {}
        self.streams = {STREAM}
        self.now = 100.0
        self.census = Census(self, self, PROGRAM)
        self.choosing = Choosing(lambda name: name in self.streams, "own")
        self.choosing.own = Own(IDLE, self.now, 0)
        proxies = Proxies(parse_networks("127.0.0.0/8"))
        self.answers = Answers(self.choosing, proxies, lambda: {"rtmp": "0.0.0.0:1935"}, self.node)

    # Directory and Surroundings

    def members(self) -> list[NodeId]:
        return list(self.nodes)

    def record(self, owner: NodeId, kind: int) -> Any:
        return self.records.get((owner, kind))

    def near(self, node: NodeId) -> Near:
        return self.links.get(node, Near())

    def is_edge(self, node: NodeId, who: Who | None) -> bool:
        return who is not None and node not in self.no_edges

    def is_origin(self, node: NodeId) -> bool:
        return True

    def fault(self, node: NodeId) -> str:
        return self.faults.get(node, "")

    # What happens

    def say(self, name: str, *facts: Fact) -> None:
        node = key(name)
        self.nodes[node] = None
        for fact in facts:
            self.records[node, KINDS[type(fact)]] = SimpleNamespace(payload=payload(fact))

    def join(self, name: str, place: Located, *doors: str, load: Load = IDLE) -> None:
        who = Who(name, PROGRAM, [Role.ORIGIN, Role.EDGE])
        where = Place(place.latitude, place.longitude, place.source, place.country)
        self.say(name, who, where, load, Doors(list(doors or (f"http://{name}.example:8080",))))

    def carry(self, name: str, origin: str = "", depth: int = 0, stream: str = STREAM) -> None:
        carried = CarriedStream(
            stream, 1, depth, [], key(origin) if depth else b"", b"", bitrate_bps=BITRATE_BPS
        )
        self.say(name, CarriedStreams([carried]))

    def go(self, name: str) -> None:
        node = key(name)
        del self.nodes[node]
        self.records = {where: what for where, what in self.records.items() if where[0] != node}

    def look(self, *, draining: bool = False) -> None:
        own = self.choosing.own
        self.census.look(Own(own.load, own.load_at, own.most_bps, "draining" if draining else ""), self.now)
        if self.choosing.census is None:
            self.choosing.attach(self.census, PLACES.get, lambda node: node.rstrip(b".").decode())

    # Viewers

    def request(self, target: str, viewer: str = "81.2.69.1", **fields: str) -> Request:
        given = {"host": "own.example:8080", "x_forwarded_for": viewer, "user_agent": "test"} | fields
        by_name = {name.replace("_", "-").encode(): value.encode() for name, value in given.items()}
        head = Head("GET", target.encode(), "1.1", FieldSet(by_name), keep_alive=True)
        return Request(head, b"", self.now, "127.0.0.1", 9, secure=False)

    def ask(self, target: str, viewer: str = "81.2.69.1", **fields: str) -> Response | None:
        """The answer; None: the request is served here as any."""
        kept: list[Response] = []
        done = self.answers.judge(self.request(target, viewer, **fields), SimpleNamespace(send=kept.append))
        assert bool(kept) is done
        return kept[0] if kept else None


def three_nodes() -> World:
    """This one in Berlin with the stream, others in Paris and Tokyo without."""
    made = World()
    made.join("own", BERLIN)
    made.join("paris", PARIS)
    made.join("tokyo", TOKYO)
    made.carry("own")
    made.look()
    return made


def location(response: Response | None) -> str:
    """Of a redirect."""
    assert response is not None and response.status == 307
    lines = response.fields.decode().split("\r\n")
    assert "Cache-Control: no-store" in lines
    return next(line.removeprefix("Location: ") for line in lines if line.startswith("Location: "))

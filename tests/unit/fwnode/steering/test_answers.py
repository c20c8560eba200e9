"""What viewers and publishers are answered."""

import json
from typing import Any

import msgspec
import pytest
from steering_world import BERLIN, IDLE, PARIS, STREAM, TOKYO, World, key, location

from fwnode.steering.consulted import consult
from fwnode.workers.wire import Consult
from mesh.directory.facts import Doors, Load
from mesh.model import short

IN_BERLIN, IN_PARIS, IN_TOKYO = "81.2.69.1", "89.160.20.1", "216.160.83.1"
FULL = Load(49_000_000, 50_000_000, 0.1, 9, 9, 0)
OWN, HLS = short(key("own")), f"/live/{STREAM}/index.m3u8"


def body(world: World, target: str, viewer: str, **fields: str) -> Any:
    response = world.ask(target, viewer, **fields)
    assert response is not None and response.status == 200 and isinstance(response.body, bytes)
    return json.loads(response.body)


def test_the_nearest_node_is_told_first(world: World) -> None:
    told = body(world, f"/play/{STREAM}", IN_PARIS)
    assert [each["name"] for each in told["nodes"]] == ["paris", "own", "tokyo"]
    assert told["nodes"][0]["distance_km"] == 0 and not told["last_resort"]
    assert told["nodes"][0]["urls"]["hls"] == f"http://paris.example:8080{HLS}"
    assert told["nodes"][0]["urls"]["ws"] == f"ws://paris.example:8080/live/{STREAM}/ws"
    here = told["nodes"][1]
    assert here["here"] and here["urls"]["mp4"] == f"http://own.example:8080/live/{STREAM}.mp4"
    assert here["urls"]["rtmp"] == f"rtmp://own.example:1935/live/{STREAM}"


def test_each_form_leads_to_its_own_path(world: World) -> None:
    for form, path in (("m3u8", HLS), ("mp4", f"/live/{STREAM}.mp4"), ("ts", f"/live/{STREAM}.ts")):
        answer = location(world.ask(f"/play/{STREAM}.{form}", IN_PARIS))
        assert answer == f"http://paris.example:8080{path}?moved={OWN}"
    assert location(world.ask(f"/play/{STREAM}/watch?token=a%26b", IN_TOKYO)) == (
        f"http://tokyo.example:8080/watch/{STREAM}?token=a%26b&moved={OWN}"
    )
    assert location(world.ask(f"/play/{STREAM}.m3u8?token=x", IN_BERLIN)) == f"{HLS}?token=x"


@pytest.mark.parametrize(
    "target", ["/play/none", "/play/none.m3u8", "/play/UPPER.m3u8", "/play/none/watch", f"/play/{STREAM}.exe"]
)
def test_what_nobody_has(world: World, target: str) -> None:
    response = world.ask(target)
    assert response is not None and response.status == 404
    assert world.choosing.reservations.members() == 0


def test_a_viewer_is_sent_on_twice_and_stays(world: World) -> None:
    once = location(world.ask(f"/play/{STREAM}.m3u8?moved=00000000", IN_PARIS))
    assert once.endswith(f"?moved=00000000.{OWN}")
    twice = location(world.ask(f"/play/{STREAM}.m3u8?moved=00000000.11111111", IN_PARIS))
    assert twice == f"{HLS}?moved=00000000.11111111"  # it stays, and so it does at the playlist
    assert world.choosing.counters.kept == 1
    assert location(world.ask(f"/play/{STREAM}.m3u8?moved=" + "x" * 3000, IN_PARIS)).startswith(HLS)


def test_nobody_is_sent_back(world: World) -> None:
    by_paris = short(key("paris"))
    assert location(world.ask(f"/play/{STREAM}.m3u8?moved={by_paris}", IN_PARIS)).startswith(HLS)


def test_who_came_by_itself_stays_unless_it_is_much_better_elsewhere(world: World) -> None:
    assert world.ask(HLS, IN_BERLIN) is None
    assert world.ask(HLS, IN_PARIS) is None  # 880 km are no reason
    assert location(world.ask(HLS, IN_TOKYO)).startswith("http://tokyo.example:8080/live/")
    assert world.ask(HLS, IN_TOKYO, sec_fetch_site="same-origin", sec_fetch_mode="cors") is None
    assert location(world.ask(f"/watch/{STREAM}", IN_TOKYO)).startswith("http://tokyo.example:8080/watch/")
    assert world.ask(f"{HLS}?moved=00000000.11111111", IN_TOKYO) is None
    assert world.ask(f"/live/{STREAM}/v1/index.m3u8", IN_TOKYO) is None  # what plays already goes on


def test_a_full_or_stopping_node_sends_newcomers_on(world: World) -> None:
    world.choosing.measured(FULL, world.now)
    world.look()
    assert location(world.ask(f"/watch/{STREAM}", IN_BERLIN)).startswith("http://paris.example:8080")
    world.choosing.measured(IDLE, world.now)
    world.carry("paris", "own", depth=1)
    world.look(draining=True)
    assert location(world.ask(HLS, IN_BERLIN)).startswith("http://paris.example:8080")


def test_the_only_source_however_full_rather_than_nobody(world: World) -> None:
    world.go("paris")
    world.go("tokyo")
    world.choosing.measured(FULL, world.now)
    world.look()
    assert body(world, f"/play/{STREAM}", IN_BERLIN)["last_resort"]
    assert world.ask(HLS, IN_BERLIN) is None


def test_nobody_can_serve(world: World) -> None:
    for name in ("own", "paris", "tokyo"):
        world.no_edges.add(key(name))
        world.join(name, BERLIN, load=FULL)
    world.look()
    response = world.ask(f"/play/{STREAM}.m3u8", IN_BERLIN)
    assert response is not None and response.status == 503 and world.choosing.counters.refused == 1


def test_https_only_where_there_is_tls(world: World) -> None:
    world.say("tokyo", Doors(["http://tokyo.example", "https://tokyo.example"]))
    world.look()
    secure = {"x_forwarded_proto": "https"}
    told = body(world, f"/play/{STREAM}", IN_PARIS, **secure)
    assert [each["name"] for each in told["nodes"]] == ["own", "tokyo"]
    assert told["nodes"][0]["urls"]["hls"].startswith("https://own.example:8080/")
    assert told["nodes"][1]["urls"]["hls"].startswith("https://tokyo.example/")
    assert told["nodes"][1]["urls"]["ws"].startswith("wss://tokyo.example/")


def test_nodes_without_a_door_are_for_nobody(world: World) -> None:
    world.say("paris", Doors([], ["http://192.168.1.9:8080"]))
    world.look()
    assert location(world.ask(f"/play/{STREAM}.m3u8", IN_PARIS)) == HLS
    assert location(world.ask(f"/play/{STREAM}.m3u8", "192.168.1.5")) == HLS  # another home's network


def test_a_host_field_that_is_none_is_not_repeated(world: World) -> None:
    told = body(world, f"/play/{STREAM}", IN_BERLIN, host='evil"/><x')
    assert "evil" not in msgspec.json.encode(told).decode()


def test_where_to_publish(world: World) -> None:
    world.join("paris", PARIS, "http://paris.example", "rtmp://paris.example:1935")
    world.join("tokyo", TOKYO, "rtmp://tokyo.example:1935", load=FULL)
    world.look()
    told = body(world, "/ingest/new", IN_PARIS)
    assert [each["rtmp"] for each in told["nodes"]] == [
        "rtmp://paris.example:1935/live",
        "rtmp://own.example:1935/live",
        "rtmp://tokyo.example:1935/live",
    ]
    assert world.ask("/ingest/UPPER").status == 404  # type: ignore[union-attr]  # it is answered


def test_a_node_in_no_network_gives_itself() -> None:
    alone = World()
    told = body(alone, f"/play/{STREAM}", IN_PARIS)
    assert [each["name"] for each in told["nodes"]] == ["own"] and told["nodes"][0]["here"]
    assert location(alone.ask(f"/play/{STREAM}.m3u8", IN_PARIS)) == HLS
    assert alone.ask("/play/none.m3u8").status == 404  # type: ignore[union-attr]  # it is answered
    assert alone.ask(HLS, IN_TOKYO) is None


def test_a_stream_that_has_just_begun_is_here(world: World) -> None:
    world.streams.add("new")
    assert location(world.ask("/play/new.m3u8", IN_TOKYO)) == "/live/new/index.m3u8"


@pytest.mark.parametrize("viewer", ["", "junk", "0.0.0.0", "224.0.0.1", "fe80::1%eth0", "::ffff:10.0.0.1"])
def test_odd_addresses_get_an_answer(world: World, viewer: str) -> None:
    assert location(world.ask(f"/play/{STREAM}.m3u8", viewer)) == HLS


def test_mapped_addresses_are_what_they_map(world: World) -> None:
    assert location(world.ask(f"/play/{STREAM}.m3u8", f"::ffff:{IN_PARIS}")).startswith("http://paris")


def asked_by_worker(world: World, target: str, viewer: str) -> Any:
    request = world.request(target, viewer)
    fields = {name.decode(): value for name, value in request.head.fields.items()}
    return consult(world.answers, Consult(7, target.encode(), fields, "127.0.0.1", False), world.now)


def test_workers_ask_and_are_told(world: World) -> None:
    sent = asked_by_worker(world, f"/play/{STREAM}.m3u8", IN_PARIS)
    assert (sent.number, sent.status) == (7, 307)
    assert ("Location", f"http://paris.example:8080{HLS}?moved={OWN}") in sent.headers
    told = asked_by_worker(world, f"/play/{STREAM}", IN_PARIS)
    assert told.headers[0] == ("Content-Type", "application/json") and json.loads(told.body)["nodes"]
    assert asked_by_worker(world, HLS, IN_BERLIN).status == 0
    assert asked_by_worker(world, "/healthz", IN_BERLIN).status == 0
    broken = Consult(8, b"no path", {}, "127.0.0.1", False)
    assert consult(world.answers, broken, world.now).status == 0

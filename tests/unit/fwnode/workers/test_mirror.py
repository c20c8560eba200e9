"""A worker has the agent's streams, and the agent knows who watches there."""

from fwnode.workers.lending import AHEAD_BYTES
from fwnode.workers.mirror import HELD_MAX, IDLE_S
from fwnode.workers.wire import HEARD_MAX
from media.deliver.quality.model import Sighting
from media.package.playlist import media_playlist
from media.package.window import LiveWindow
from media.track.registry import ENDED_KEEP_S
from media.track.stream import Source, StreamState


def test_the_same_bytes_in_every_worker(agent, connect, made):
    early, late = connect(1), connect(2)
    publisher = agent.publish()
    origin = LiveWindow(publisher.stream)
    early.carry()
    copies = [early.find()]
    for _ in range(400):
        publisher.send(1)
        early.carry(5000)
    late.carry()
    copies.append(late.find())
    late.carry()
    origin.update()
    windows = [LiveWindow(copy) for copy in copies]
    for window in windows:
        assert made(window) == made(origin) and len(made(window)) > 20
        lists = {media_playlist(each, "v1", 6_000_000) for each in (window, origin)}
        assert len(lists) == 1


def test_a_packet_is_there_as_soon_as_it_is_carried(agent, pair):
    publisher = agent.publish()
    publisher.send(1)
    pair.carry()
    copy = pair.find()
    pair.carry()
    for _ in range(50):
        publisher.send(1)
        pair.carry()
        assert copy.ring.next == publisher.stream.ring.next
        assert copy.ring.get(copy.ring.next - 1) == publisher.stream.ring.get(copy.ring.next - 1)
    assert copy.state is StreamState.LIVE


def test_the_past_comes_at_once(agent, pair):
    """A viewer who was given the first segments only would begin far behind."""
    agent.publish().send(300, size=20_000)
    pair.carry()
    copy = pair.find()
    seen = []
    copy.subscribe(lambda now: seen.append(copy.ring.next))
    pair.carry(3000)
    assert seen and seen[0] > 700


def test_names_that_nobody_has_cost_nothing(agent, pair):
    pair.carry()
    assert pair.find("nobody") is None
    assert not pair.theirs.sent and not len(pair.streams)
    assert list(pair.mirror) == []


def test_the_home_page_is_the_agents(agent, pair):
    publisher = agent.publish()
    publisher.send(2)
    publisher.stream.viewer_came("rtmp")
    agent.lending.tell()
    pair.carry()
    [entry] = pair.mirror
    assert (entry.name, entry.state, sum(entry.viewers.values())) == ("live", StreamState.LIVE, 1)
    assert not len(pair.streams), "nobody watches, nothing is fetched"


class Asking:
    """A held request and its answer."""

    def __init__(self, pair, name: str) -> None:
        self.segments = ("live", name, "index.m3u8")
        self.on_close = None
        self.found: list[object] = []
        handler = pair.mirror.asking_first(lambda request, reply: self.found.append(pair.find(name)))
        handler(self, self)


def test_what_other_nodes_have_is_asked_for(agent, pair):
    fetched: list[str] = []

    def fetch(name: str, now: float) -> None:
        fetched.append(name)
        if name == "far" and agent.streams.get(name) is None:
            agent.streams.open_copy(name, Source("mesh", "n2"), now, 0, lambda reason: None)

    agent.streams.fetch = fetch
    agent.lending.tell()
    pair.carry()
    several = [Asking(pair, "far") for _ in range(3)]
    unknown, gone = Asking(pair, "nobody"), Asking(pair, "elsewhere")
    assert not several[0].found
    gone.on_close(pair.clock.now)
    pair.carry()
    assert fetched.count("far") == 1 and fetched.count("nobody") == 1
    assert all(asking.found[0].state is StreamState.STARTING for asking in several)
    assert unknown.found == [None] and not gone.found
    assert len(pair.streams) == 1


def test_a_flood_of_names_is_answered_without_asking(agent, pair):
    agent.streams.fetch = lambda name, now: None
    agent.lending.tell()
    pair.carry()
    for number in range(HELD_MAX):
        assert not Asking(pair, f"n{number}").found
    assert Asking(pair, "one-more").found == [None]
    pair.carry()
    assert Asking(pair, "again").found == []


def test_viewers_are_counted_by_the_agent(agent, connect):
    publisher = agent.publish()
    publisher.send(30)
    stream = publisher.stream
    stream.viewer_came("ts")
    workers = [connect(1), connect(2)]
    for pair in workers:
        pair.carry()
        copy = pair.find()
        pair.carry()
        copy.viewer_came("ts")
        copy.viewer_came("ws")
        copy.reader_skips = 2
        pair.report()
        pair.report()
    assert stream.viewers == {"ts": 3, "ws": 2} and stream.reader_skips == 4
    workers[0].find().viewer_left("ws")
    workers[0].report()
    assert stream.viewers == {"ts": 3, "ws": 1}
    workers[1].lose()
    assert stream.viewers == {"ts": 2, "ws": 0}
    assert agent.crew.bytes_out == 100
    agent.crew.retire(agent.crew.workers[1])
    assert agent.crew.bytes_out == 100 and agent.crew.connections("http") == 1
    assert workers[1].noted[-1] == "closed" and len(agent.lending.links) == 1


def test_a_viewer_by_hls_of_two_workers_is_one(agent, connect, clock):
    stream = agent.publish().stream
    workers = [connect(1), connect(2)]
    for pair in workers:
        pair.mirror.visits.seen(stream, "192.0.2.1 player", clock.now)
        pair.report()
    assert stream.viewers == {"hls": 1}
    workers[0].mirror.visits.seen(stream, "192.0.2.2 player", clock.now)
    workers[0].report()
    assert stream.viewers == {"hls": 1}, "a probe asks once"


def test_who_asks_keeps_the_stream_at_the_agent(agent, pair, clock):
    publisher = agent.publish()
    publisher.send(30)
    pair.carry()
    pair.find()
    clock.advance(20)
    assert publisher.stream.asked_at < clock.now
    pair.find()
    pair.report()
    assert publisher.stream.asked_at == clock.now


def test_what_nobody_watches_is_let_go_and_begins_again(agent, pair, clock):
    publisher = agent.publish()
    publisher.send(60)
    pair.carry()
    first = pair.find()
    pair.carry()
    for _ in range(round(IDLE_S) + 1):
        publisher.send(30)
        pair.report()
    assert first.state is StreamState.ENDED
    assert publisher.stream._listeners.keys().isdisjoint(
        loan.publication._news for loan in pair.link._loans.values()
    )
    again = pair.find()
    assert again is not first and again.state is StreamState.STARTING
    pair.carry()
    assert again.state is StreamState.LIVE
    again.viewer_came("ts")
    for _ in range(round(IDLE_S) + 5):
        publisher.send(30)
        pair.report()
    assert again.state is StreamState.LIVE


def test_a_stream_ends_and_another_one_of_its_name_begins(agent, pair, clock):
    publisher = agent.publish()
    publisher.send(60)
    pair.carry()
    first = pair.find()
    pair.carry()
    agent.streams.stop("live", "enough", clock.now)
    pair.carry()
    assert first.state is StreamState.ENDED
    assert pair.find() is first, "its last segments"
    agent.publish().send(40)
    pair.carry()
    second = pair.find()
    pair.carry()
    assert second is not first and second.state is StreamState.LIVE
    clock.advance(ENDED_KEEP_S + 1)
    assert pair.find() is second


def test_a_publisher_who_comes_back(agent, pair, clock):
    publisher = agent.publish()
    publisher.send(60)
    pair.carry()
    copy = pair.find()
    publisher.writer.close("gone", clock.now)
    pair.carry()
    assert copy.state is StreamState.LINGERING
    agent.publish().send(60)
    pair.carry()
    assert copy.state is StreamState.LIVE and max(copy.sections) == 1
    assert not [line for line in pair.noted if "stream" in line]


def test_what_the_agent_takes_back_is_taken_back(agent, pair, clock):
    """A copy of another node's stream, whose parent sent what its origin did not sign."""
    source = agent.publish("source")
    source.send(200)
    packets = source.stream.ring.slice(0, source.stream.ring.next)
    writer = agent.streams.open_copy("live", Source("mesh", "n2"), clock.now, 0, lambda reason: None)
    writer.begin_section(source.stream.sections[0], clock.now)
    half = next(i for i, packet in enumerate(packets) if packet.segment > packets[0].segment)
    for packet in packets[: half + 5]:
        if packet is packets[half]:
            writer.prove(500_000, 2_000_000, whole=False)
        writer.write(packet)
    writer.set_state(StreamState.LIVE, clock.now)
    writer.flush(clock.now)
    pair.carry()
    copy = pair.find()
    pair.carry()
    assert copy.ring.next == half + 5
    writer.retract(clock.now)
    pair.carry()
    assert copy.ring.next == half
    for packet in packets[half:]:
        writer.write(packet)
    writer.flush(clock.now)
    pair.carry()
    assert copy.ring.slice(0, copy.ring.next) == packets
    assert not [line for line in pair.noted if "stream" in line]


def test_a_slow_worker_is_skipped_and_bounded(agent, pair):
    publisher = agent.publish()
    publisher.send(30)
    pair.carry()
    copy = pair.find()
    pair.carry()
    publisher.send(900, size=30_000)
    assert len(pair.ours.sent) < AHEAD_BYTES + 300_000
    pair.carry()
    publisher.send(30)
    pair.carry()
    assert copy.ring.get(copy.ring.next - 1) == publisher.stream.ring.get(publisher.stream.ring.next - 1)
    assert publisher.stream.reader_skips == 1


def test_a_waiting_viewer_begins_when_the_stream_does(agent, pair, clock):
    began: list[float] = []
    pair.carry()
    pair.streams.wait_for("live", began.append)
    pair.report()
    publisher = agent.publish()
    publisher.send(3)
    pair.carry()
    publisher.send(3)
    pair.carry()
    assert began


class Reply:
    def __init__(self) -> None:
        self.on_close = None
        self.answers: list[int] = []

    def send(self, response) -> None:
        self.answers.append((response.status, response.body))


def test_a_poster_is_asked_for_once(agent, pair, clock):
    agent.publish().send(5)
    agent.posters.on_work = lambda: None
    pair.carry()
    replies = [Reply() for _ in range(4)]
    for reply in replies:
        assert pair.mirror.posters.ask(pair.streams, "live", reply, clock.now)
    replies[3].on_close(clock.now)
    pair.carry()
    assert agent.posters.waiting == 1
    assert agent.posters.begin() is not None
    agent.posters.finished(b"jpeg", clock.now)
    pair.carry()
    assert [reply.answers for reply in replies] == [[(200, b"jpeg")]] * 3 + [[]]
    late, missing = Reply(), Reply()
    pair.mirror.posters.ask(pair.streams, "live", late, clock.now)
    pair.mirror.posters.ask(pair.streams, "nobody", missing, clock.now)
    pair.carry()
    assert late.answers == [(200, b"jpeg")] and missing.answers[0][0] == 404
    assert not pair.mirror.posters.ask(pair.streams, "No Name", Reply(), clock.now)


def test_a_worker_that_dies_waits_for_no_poster(agent, pair, clock):
    agent.publish().send(5)
    agent.posters.on_work = lambda: None
    pair.carry()
    pair.mirror.posters.ask(pair.streams, "live", Reply(), clock.now)
    pair.carry()
    pair.lose()
    assert agent.posters.waiting == 0 and agent.posters.queued == 0


def test_viewers_are_taken_in_when_it_is_known_what_there_is(agent, connect):
    agent.publish().send(3)
    pair = connect(2)
    assert not pair.noted
    pair.carry()
    assert pair.noted == ["begin with 1", "ready"]


def test_a_worker_that_starts_late_drains_too(agent, connect):
    agent.lending.drain()
    pair = connect(2)
    pair.carry()
    assert "drain" in pair.noted


def test_what_the_agent_says(agent, pair):
    agent.lending.drain()
    agent.lending.renew()
    pair.carry()
    assert sorted(pair.noted) == ["begin with 0", "drain", "ready", "renew"]
    pair.mirror.closed(pair.clock.now)
    assert pair.noted[-1] == "lost"


def test_altered_media_ends_the_copy_and_is_told(agent, pair, clock):
    publisher = agent.publish()
    publisher.send(60)
    pair.carry()
    copy = pair.find()
    pair.carry()
    publisher.send(30)
    pair.ours.sent[-40:-30] = bytes(10)
    pair.carry()
    publisher.send(30)
    pair.carry()
    assert copy.state is StreamState.ENDED
    assert any(line.startswith("stream") for line in pair.noted)
    resting = pair.find()
    assert resting is copy
    clock.advance(1.1)
    again = pair.find()
    pair.carry()
    assert again is not copy and again.state is StreamState.LIVE


def test_what_players_tell_a_worker_is_on_the_agents_board(agent, pair, clock):
    agent.publish()
    pair.carry()
    heard = pair.mirror.quality
    assert heard.take("live", Sighting(1, 5, "hls", latency_ms=1500), clock.now)
    assert heard.take("live", Sighting(1, 5, "hls", latency_ms=900), clock.now)
    for _ in range(3):
        assert heard.take("live", Sighting(2, 6, "hls", requests=1, starved=1), clock.now)
    assert not heard.take("nobody", Sighting(1, 5, "hls"), clock.now)
    heard.totals.malformed += 4
    pair.report()
    view = agent.quality.view("live", clock.now)
    assert view.latency_ms.p50 == 900 and view.cmcd.starved == 3 and view.heard == 2
    assert (agent.quality.totals.malformed, agent.quality.totals.cmcd) == (4, 3)
    pair.report()
    assert agent.quality.totals.cmcd == 3


def test_a_worker_forwards_no_more_players_than_a_board_keeps(agent, pair, clock):
    agent.publish()
    pair.carry()
    for session in range(HEARD_MAX + 10):
        assert pair.mirror.quality.take("live", Sighting(session, session, "hls"), clock.now)
    heard, refusals = pair.mirror.quality.report()
    assert (len(heard), refusals.limited) == (HEARD_MAX, 10)

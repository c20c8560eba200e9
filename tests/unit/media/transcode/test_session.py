"""The ladder of one stream: in step with its source, whatever the worker does."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from media.package.playlist import media_playlist, multivariant_playlist
from media.package.window import LiveWindow
from media.track.model import Codec, is_gap
from media.track.stream import StreamState
from media.transcode.session import IDLE_S, SHED_S, STALL_S
from media.transcode.wire import X264, Encoded, Engine, Impossible, Spent

WINDOW_US = 16_000_000


def run(publisher: Any, worker: Any, frames: int, **options: Any) -> None:
    for _ in range(frames):
        publisher.send(1)
        worker.work(**options)


def shape(window: LiveWindow) -> list[tuple[int, int, int, int]]:
    """Segment, part, its beginning and its duration, for each complete part."""
    window.update()
    return [
        (segment.msn, part.index, part.start_us, part.duration_us)
        for segment in window.segments
        for part in segment.complete_parts()
    ]


def gaps(window: LiveWindow, name: str = "v160") -> list[bool]:
    window.update()
    return [
        not part.holds(segment.renditions[name])
        for segment in window.segments
        for part in segment.complete_parts()
    ]


def text(window: LiveWindow, name: str) -> str:
    window.update()
    made = media_playlist(window, name, WINDOW_US)
    assert made is not None
    return made.decode()


def test_playlists_of_source_and_ladder_are_the_same_but_for_names(
    open_house: Callable[..., Any], publisher: Any
) -> None:
    house = open_house()
    publisher.send(1)
    worker = house.worker()
    run(publisher, worker, 400)
    source, ladder = LiveWindow(publisher.stream), LiveWindow(house.ladder())
    assert shape(ladder) == shape(source)
    marks = [line for line in text(source, "v1").splitlines() if line.startswith(("#EXTINF", "#EXT-X-PART:"))]
    made = [
        line for line in text(ladder, "v160").splitlines() if line.startswith(("#EXTINF", "#EXT-X-PART:"))
    ]
    assert marks == made
    assert "PROGRAM-DATE-TIME" in text(ladder, "v144")


def test_presentation_times_are_exact_and_sound_is_the_same(
    open_house: Callable[..., Any], publisher: Any
) -> None:
    house = open_house()
    publisher.send(1)
    run(publisher, house.worker(), 200)
    ring, made = publisher.stream.ring, house.ladder().ring
    source = ring.slice(ring.first, ring.next)
    ladder = made.slice(made.first, made.next)
    pictures = {packet.pts: packet for packet in source if packet.track.width}
    for packet in ladder:
        if packet.track.width:
            assert packet.keyframe == pictures[packet.pts].keyframe
            assert packet.dts == pictures[packet.pts].dts
    sounds = [packet for packet in ladder if not packet.track.width]
    assert sounds
    assert all([packet in source for packet in sounds])


def test_the_multivariant_playlist_has_the_ladder(open_house: Callable[..., Any], publisher: Any) -> None:
    house = open_house()
    publisher.send(1)
    run(publisher, house.worker(), 100)
    made = multivariant_playlist(LiveWindow(publisher.stream), "?token=x", LiveWindow(house.ladder()))
    assert made is not None
    uris = [line for line in made.decode().splitlines() if not line.startswith("#")]
    assert uris == [f"{name}/index.m3u8?token=x" for name in ("v1", "v160", "v144", "a2")]
    assert b"RESOLUTION=284x160" in made
    alone = multivariant_playlist(LiveWindow(publisher.stream))
    assert alone is not None
    assert b"a2" not in alone


def test_left_out_pictures_change_no_boundary(open_house: Callable[..., Any], publisher: Any) -> None:
    house = open_house()
    publisher.send(1)
    run(publisher, house.worker(), 300, leave_out=lambda rung, number: rung == 1 and number % 2 == 1)
    assert [row[3] for row in shape(LiveWindow(house.ladder()))][:8] == [500_000] * 8
    low = [packet for packet in house.ladder().ring.slice(0, 10**6) if packet.track.id == 144]
    assert {packet.duration for packet in low[3:]} == {6000}


def test_a_lost_worker_is_a_gap_until_the_next_keyframe(
    open_house: Callable[..., Any], publisher: Any
) -> None:
    house = open_house()
    publisher.send(1)
    run(publisher, house.worker(), 130)
    house.session.worker_lost("it crashed", house.clock.now)
    assert "it crashed" in publisher.stream.statistics(0).findings[0].message
    publisher.send(20)
    source, ladder = LiveWindow(publisher.stream), LiveWindow(house.ladder())
    run(publisher, house.worker(), 120)
    first = shape(ladder)[0]
    assert shape(ladder) == [row for row in shape(source) if row >= first]
    found = gaps(ladder)
    assert found[0] is False
    assert any(found)
    assert not any(found[-4:])
    assert "GAP=YES" in text(ladder, "v160") or "#EXT-X-GAP" in text(ladder, "v160")
    assert publisher.stream.statistics(0).findings == []
    missing = [is_gap(packet) for packet in house.ladder().ring.slice(0, 10**6) if packet.track.id == 160]
    assert 0 < missing.count(True) < 60


def test_a_worker_that_does_nothing_stalls_and_the_ladder_is_bounded(
    open_house: Callable[..., Any], publisher: Any
) -> None:
    house = open_house()
    publisher.send(1)
    worker = house.worker()
    run(publisher, worker, 60)
    session = house.session
    began = house.clock.now
    while not session.is_stalled(house.clock.now):
        publisher.send(1)
        session.take_output()
        assert len(session._splice) < 500
        assert house.clock.now - began < 2 * STALL_S
    session.worker_lost("it had work and did nothing", house.clock.now)
    run(publisher, house.worker(), 90)
    assert not any(gaps(LiveWindow(house.ladder()))[-2:])
    assert not session.is_stalled(house.clock.now)


def test_a_pipe_that_nobody_reads_is_bounded_and_rungs_are_given_up(
    open_house: Callable[..., Any], publisher: Any
) -> None:
    house = open_house()
    publisher.send(1)
    worker = house.worker()
    run(publisher, worker, 61)
    session = house.session
    while session.overruns < 3:
        publisher.send(1)
        assert session._output_bytes < 200_000
    assert "given up" in publisher.stream.statistics(0).findings[0].message
    run(publisher, worker, 90)
    assert [rung.side for rung in worker.begins[-1].rungs] == [144]
    ladder = LiveWindow(house.ladder())
    assert gaps(ladder, "v160")[-1]
    assert not gaps(ladder, "v144")[-1]
    house.clock.advance(SHED_S)
    session.tick(house.clock.now)
    run(publisher, worker, 90)
    assert [rung.side for rung in worker.begins[-1].rungs] == [160, 144]
    assert not gaps(ladder, "v160")[-1]


def test_late_answers_are_not_used(open_house: Callable[..., Any], publisher: Any) -> None:
    house = open_house()
    publisher.send(1)
    worker = house.worker()
    run(publisher, worker, 90)
    number = worker.coded[-1].number
    before = house.ladder().ring.next
    house.session.receive([Encoded(0, number, 0, True, b"late"), Encoded(9, number + 1, 0, True, b"x")], 0.0)
    assert house.ladder().ring.next == before


def test_another_size_is_another_section(open_house: Callable[..., Any], publisher: Any) -> None:
    house = open_house()
    publisher.send(1)
    worker = house.worker()
    run(publisher, worker, 120)
    inits = {track.init for track in house.ladder().tracks.values()}
    video = next(iter(publisher.stream.tracks.values()))
    publisher.describe(msgspec.structs.replace(video, width=284, height=160, init=0), None)
    publisher.frames += -publisher.frames % 30
    run(publisher, worker, 120)
    assert [track.name for track in house.ladder().tracks.values()] == ["v144", "a2"]
    assert house.ladder().sections.keys() == publisher.stream.sections.keys()
    assert max(track.init for track in house.ladder().tracks.values()) > max(inits)
    ladder, source = shape(LiveWindow(house.ladder())), shape(LiveWindow(publisher.stream))
    assert [row[:3] for row in ladder] == [row[:3] for row in source if row >= ladder[0]]


def test_the_ladder_lingers_and_ends_with_its_source(
    open_house: Callable[..., Any], publisher: Any, clock: Any
) -> None:
    house = open_house()
    publisher.send(1)
    worker = house.worker()
    run(publisher, worker, 100)
    publisher.writer.close("gone", clock.now)
    worker.work()
    assert house.ladder().state is StreamState.LINGERING
    window, source = LiveWindow(house.ladder()), LiveWindow(publisher.stream)
    assert shape(window)[-1] == shape(source)[-1]
    clock.advance(11)
    for _ in range(4):
        house.transcoder.tick(clock.now)
        clock.advance(0.5)
    assert house.ladder().state is StreamState.ENDED
    assert not house.session.wants_worker(clock.now)
    clock.advance(30)
    assert house.transcoder.sessions == {}


def test_the_last_pictures_are_not_lost(open_house: Callable[..., Any], publisher: Any, clock: Any) -> None:
    house = open_house()
    publisher.send(1)
    worker = house.worker()
    run(publisher, worker, 100)
    publisher.send(5)  # that are still in the worker
    publisher.writer.close("gone", clock.now)
    worker.work()
    assert house.ladder().state is StreamState.LINGERING
    assert not any(gaps(LiveWindow(house.ladder())))
    assert shape(LiveWindow(house.ladder())) == shape(LiveWindow(publisher.stream))


def test_a_publisher_that_comes_back_goes_on(
    open_house: Callable[..., Any], publisher: Any, publish: Callable[[], Any], clock: Any
) -> None:
    house = open_house()
    publisher.send(1)
    worker = house.worker()
    run(publisher, worker, 100)
    publisher.writer.close("gone", clock.now)
    worker.work()
    clock.advance(2)
    again = publish()
    run(again, worker, 100)
    ladder = house.ladder()
    assert ladder.state is StreamState.LIVE
    assert len(ladder.sections) == 2
    assert len({track.init for track in ladder.tracks.values() if track.width}) == 1


def test_on_demand_begins_with_who_asks_and_rests_after(
    open_house: Callable[..., Any], publisher: Any, clock: Any
) -> None:
    house = open_house(on_demand=True)
    publisher.send(1)
    worker = house.worker()  # once, to know what there would be
    run(publisher, worker, 90)
    assert not house.session.wants_worker(clock.now)
    house.session.worker_lost("", clock.now)
    ladder = house.ladder()
    assert [track.name for track in ladder.tracks.values()] == ["v144", "v160", "a2"]
    assert ladder.ring.next == 0
    assert ladder.state is StreamState.STARTING
    publisher.send(30)
    assert ladder.ring.next == 0
    house.streams.find("live+ladder", clock.now)
    worker = house.worker()
    run(publisher, worker, 120)
    assert house.ladder() is ladder
    assert ladder.state is StreamState.LIVE
    clock.advance(IDLE_S)
    house.transcoder.tick(clock.now)
    assert not house.session.wants_worker(clock.now)
    assert house.ladder() is not ladder
    assert house.ladder().ring.next == 0


def test_more_streams_than_the_machine_can_make(
    open_house: Callable[..., Any], publisher: Any, clock: Any
) -> None:
    house = open_house(streams_max=1)
    assert house.capacity.reserve("another", None) == ""
    publisher.send(10)
    assert not house.session.wants_worker(clock.now)
    assert "1 streams are made already" in publisher.stream.statistics(0).findings[0].message
    house.capacity.release("another")
    clock.advance(6)
    house.transcoder.tick(clock.now)
    assert house.session.wants_worker(clock.now)
    assert publisher.stream.statistics(0).findings == []


def test_what_cannot_be_made_is_said(open_house: Callable[..., Any], publisher: Any, clock: Any) -> None:
    house = open_house()
    publisher.send(1)
    worker = house.worker()
    run(publisher, worker, 60)
    house.session.receive([Impossible(99, "of long ago")], clock.now)
    assert house.session.wants_worker(clock.now)
    house.session.worker_lost("", clock.now)
    again = house.worker()
    again.refusal = "no such decoder"
    run(publisher, again, 60)
    assert "no such decoder" in publisher.stream.statistics(0).findings[0].message
    assert not house.session.wants_worker(clock.now)


@pytest.mark.parametrize("video", [None, "two"])
def test_sources_that_get_no_ladder(
    streams: Any, clock: Any, open_house: Callable[..., Any], publisher: Any, video: str | None
) -> None:
    house = open_house()
    if video == "two":
        track = next(iter(publisher.stream.tracks.values()))
        publisher.writer.describe(msgspec.structs.replace(track, id=3, init=0), clock.now)
        publisher.send(40)
        assert "several pictures" in publisher.stream.statistics(0).findings[0].message
    else:
        small = msgspec.structs.replace(
            next(iter(publisher.stream.tracks.values())), width=64, height=48, codec=Codec.H264
        )
        publisher.describe(small, None)
        publisher.send(40)
        assert "48p" in publisher.stream.statistics(0).findings[0].message
    assert house.ladder() is None
    assert not house.session.wants_worker(clock.now)


def test_the_operator_may_stop_the_ladder(open_house: Callable[..., Any], publisher: Any, clock: Any) -> None:
    house = open_house()
    publisher.send(1)
    run(publisher, house.worker(), 60)
    assert house.streams.stop("live+ladder", "the operator wants it so", clock.now)
    assert not house.session.wants_worker(clock.now)
    publisher.send(60)
    assert publisher.stream.state is StreamState.LIVE
    assert "wants it so" in publisher.stream.statistics(0).findings[0].message


def test_a_rung_that_nobody_makes_any_more_is_a_gap_and_comes_back(
    open_house: Callable[..., Any], publisher: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    house, refused = open_house(), set()
    monkeypatch.setattr(house.capacity, "engine", lambda owner, side: None if side in refused else X264)
    monkeypatch.setattr(house.capacity, "reason", lambda owner: "no room for 160p" if refused else "")
    publisher.send(1)
    worker = house.worker()
    run(publisher, worker, 100)
    for taken in ({160}, set()):
        refused.clear()
        refused.update(taken)
        house.transcoder.tick(house.clock.now)
        messages = [finding.message for finding in publisher.stream.statistics(0).findings]
        assert any(["no room for 160p" in message for message in messages]) == bool(taken)
        run(publisher, worker, 150)
    assert [[rung.side for rung in begin.rungs] for begin in worker.begins] == [[160, 144], [144], [160, 144]]
    high, low = gaps(LiveWindow(house.ladder())), gaps(LiveWindow(house.ladder()), "v144")
    assert any(high) and not high[-1] and not any(low)


def test_an_engine_that_cannot_is_told_of_and_another_takes_over(
    open_house: Callable[..., Any], publisher: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    house, failed = open_house(), []
    card = Engine("h264_nvenc", "gpu", "nv12")
    monkeypatch.setattr(house.capacity, "engine", lambda owner, side: X264 if failed else card)
    monkeypatch.setattr(house.capacity, "failed", lambda owner, reason: failed.append(reason))
    publisher.send(1)
    worker = house.worker()
    worker.refusal = "no capable devices found"
    run(publisher, worker, 10)
    worker.refusal = ""
    run(publisher, worker, 200)
    assert failed == ["no capable devices found"]
    assert {rung.engine.name for rung in worker.begins[-1].rungs} == {"libx264"}
    assert house.ladder().ring.next > 0
    assert not any(gaps(LiveWindow(house.ladder())))


def test_what_it_took_and_made_is_counted(open_house: Callable[..., Any], publisher: Any) -> None:
    house = open_house()
    publisher.send(1)
    run(publisher, house.worker(), 200)
    house.session.receive([Spent(0.5, 0.25, 1_000_000), Spent(0.5, 0.25, 1_000_000)], house.clock.now)
    toll = house.session.toll
    assert (toll.cpu_s, toll.busy_s, toll.media_us) == (1.0, 0.5, 2_000_000)
    assert set(toll.made_us) == {("libx264", 160), ("libx264", 144)}
    assert house.session.lag(house.clock.now) == 0.0

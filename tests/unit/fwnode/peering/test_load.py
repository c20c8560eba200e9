"""What a node tells others of its load and streams: measured means, names, and what fits."""

import tempfile
from pathlib import Path
from random import Random

import msgspec
import pytest

from devices.cost import CodecCost, Rate
from devices.model import CPU, Choice, Kind
from devices.survey import Finding, Host, Survey
from fwnode import config, wiring
from fwnode.keys import Keyring
from fwnode.network import Network
from fwnode.node import Node
from fwnode.peering.load import MEAN_S, LoadMeter, carried_streams, transcode
from fwnode.transcoding.broker import Broker
from fwnode.transcoding.ledger import Ledger
from fwnode.transcoding.model import Transcoding
from media.ingest.gate import PublishRequest
from media.net.reactor import Reactor
from media.track.model import Codec, Track
from media.track.stream import TRACKS_MAX, Writer
from mesh.directory.facts import (
    STREAMS_MAX,
    CarriedStream,
    CarriedStreams,
    Transcode,
    is_other_transcode,
    payload,
)
from mesh.directory.record import PAYLOAD_BYTES_MAX
from mesh.discovery.store import FILE_NAME, PeersFile
from mesh.identity.store import IdentityStore
from mesh.model import KEY_BYTES

NAME_LENGTH_MAX = 63  # of a stream


class Time:
    """A clock and a CPU that the test turns."""

    def __init__(self) -> None:
        self.now = 100.0
        self.cpu_s = 7.0
        self.unix_us = 10**15
        self.mesh_bytes = 0

    def clock(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def node(time: Time) -> Node:
    with tempfile.TemporaryDirectory() as folder:
        network = Network(
            IdentityStore(Path(folder)),
            PeersFile(Path(folder) / FILE_NAME),
            name="here",
            program="fwnode test",
            unix_s=lambda: 1e9,
            entropy=lambda count: bytes(count),
        )
    return wiring.compose(
        config.load({"name": "here", "data_dir": "/data"}, "", "", {}, {"ingest.open": "true"}),
        network,
        Keyring(),
        Reactor(lambda kind, error, peer: None, time.clock),
        started_at=0.0,
        unix_us=lambda: time.unix_us,
        random=Random(1),
        player_files={},
    ).node


def publish(node: Node, name: str, tracks: int = 0) -> Writer:
    request = PublishRequest("rtmp", name, "", "192.0.2.1", 9, "obs")
    writer = node.gate.publish(request, lambda reason: None, 1.0)
    for number in range(1, tracks + 1):
        track = Track(
            id=number, codec=Codec.AAC, timescale=48_000, config=b"", sample_rate=48_000, channels=2
        )
        writer.describe(track, 1.0)
    return writer


def meter(node: Node, time: Time, cores: int = 4) -> LoadMeter:
    return LoadMeter(node, lambda: time.cpu_s, cores, lambda: time.mesh_bytes)


def test_rates_are_means_over_the_last_seconds(node: Node, time: Time) -> None:
    measured = meter(node, time)
    time.now += MEAN_S
    time.cpu_s += MEAN_S  # one of four cores all the time
    node.reactor.bytes_out += 400_000
    time.mesh_bytes += 600_000
    load = measured.measure()
    assert load.cpu == 0.25
    assert load.uplink_bps == round(8_000_000 / MEAN_S)
    time.now += 2 * MEAN_S
    load = measured.measure()
    assert (load.cpu, load.uplink_bps) == (0.0, 0)


def test_between_means_the_last_one_is_told(node: Node, time: Time) -> None:
    measured = meter(node, time)
    node.reactor.bytes_out += 1_000_000
    assert measured.measure().uplink_bps == 0
    time.now += MEAN_S - 0.1
    assert measured.measure().uplink_bps == 0
    time.now += 0.1
    first = measured.measure()
    assert first.uplink_bps > 0
    time.now += 1.0
    node.reactor.bytes_out += 50_000_000
    assert measured.measure() == first


@pytest.mark.parametrize(("used_s", "share"), [(1000.0, 1.0), (-3.0, 0.0)])
def test_cpu_is_a_share_whatever_the_system_says(node: Node, time: Time, used_s: float, share: float) -> None:
    measured = meter(node, time, cores=1)
    time.now += MEAN_S
    time.cpu_s += used_s
    assert measured.measure().cpu == share


def test_viewers_are_counted_at_once(node: Node, time: Time) -> None:
    measured = meter(node, time)
    writer = publish(node, "cam")
    writer.stream.viewer_came("hls")
    writer.stream.viewer_came("hls")
    assert measured.measure().viewers == 2
    assert measured.measure().sessions == 0


def stream_of(number: int, tracks: int = 2) -> CarriedStream:
    """As long as a record's rows get: taken from a parent, with names of all tracks."""
    name = f"{number:03}".ljust(NAME_LENGTH_MAX, "x")
    key = bytes([number]) * KEY_BYTES
    return CarriedStream(name, 10**15, 2, [f"a{track}" for track in range(tracks)], key, key, 3_000_000)


def test_streams_are_told_by_name() -> None:
    assert carried_streams([]) == CarriedStreams([])
    zoo, ant = CarriedStream("zoo", 1, 0, ["v1"]), CarriedStream("ant", 2, 0, [])
    assert carried_streams([zoo, ant]).streams == [ant, zoo]


def test_more_streams_than_a_record_holds_are_left_out() -> None:
    streams = [CarriedStream(f"s{number:03}", 1, 0, []) for number in range(STREAMS_MAX + 5)]
    assert carried_streams(reversed(streams)).streams == streams[:STREAMS_MAX]


@pytest.mark.parametrize("tracks", [2, TRACKS_MAX])
def test_whatever_is_carried_fits_a_record(tracks: int) -> None:
    told = carried_streams(stream_of(number, tracks) for number in range(STREAMS_MAX))
    assert len(payload(told)) <= PAYLOAD_BYTES_MAX
    assert msgspec.msgpack.decode(payload(told), type=CarriedStreams) == told
    assert len(told.streams) > STREAMS_MAX // 4


def test_what_can_be_transcoded_is_told_when_it_is_known(node: Node) -> None:
    survey = Survey(
        Host("cpu", 8.0, 0, (), "", ""),
        tuple(
            Finding(
                name, kind, "h264", Choice(name, CPU, "yuv420p"), True, cost=CodecCost(Rate(1e-3), Rate(1e-3))
            )
            for name, kind in (("h264", Kind.DECODER), ("libx264", Kind.ENCODER))
        ),
        Rate(),
    )
    broker = Broker(1, lambda: 0.0)
    assert node.transcoding is not None
    transcoder = node.transcoding.transcoder
    assert transcode(None, 0.0) is None
    assert transcode(node.transcoding, 0.0) is None
    assert transcode(Transcoding(transcoder, broker, Ledger()), 0.0) is None
    broker.adopt(survey)
    told = transcode(Transcoding(transcoder, broker, Ledger()), 0.0)
    assert told == Transcode(["libx264"], 100)  # six cores of eight, 0.06 of one each


@pytest.mark.parametrize(
    ("engines", "free", "news"),
    [(["a"], 100, False), (["a"], 95, False), (["a"], 80, True), (["a"], 0, True), (["a", "b"], 100, True)],
)
def test_small_changes_of_free_capacity_are_not_told(engines: list[str], free: int, news: bool) -> None:
    assert is_other_transcode(None, Transcode(engines, free))
    assert is_other_transcode(Transcode(["a"], 100), Transcode(engines, free)) is news

"""Pictures of a real encoder through the client to the gateway's double, which transcodes them."""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from random import Random

import av
import imageio_ffmpeg
import msgspec
import pytest
import trio

sys.path.append(str(Path(__file__).resolve().parents[1] / "doubles"))
from livepeer_gateway.running import RunningGateway

from media.bitstream.annexb import START_CODE, sample_to_annexb_untrusted
from media.bitstream.h264 import parse_avcc_untrusted
from media.track.model import Codec, Packet, Track
from media.transcode.livepeer.client import GatewayClient, serve_offload
from media.transcode.livepeer.counts import Counts
from media.transcode.livepeer.engine import Engine, OffloadSettings
from media.transcode.livepeer.gateways import Gateways
from media.transcode.livepeer.order import Gateway, Profile
from media.transcode.livepeer.rendition import Rendition
from media.transcode.livepeer.schedule import FellBack, Released

pytestmark = pytest.mark.interop

FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()
FPS, SECONDS = 30, 6
SCALE = 90_000
PROFILES = (Profile("90p", 90, 160, 90, 200_000), Profile("60p", 60, 106, 60, 100_000, 15))
WAIT_S = 60.0  # for everything; far more than it takes on a loaded machine
PATIENT = OffloadSettings(budget_s=WAIT_S)


def encode(path: Path, *options: str, size: str = "320x180") -> list[Packet]:
    """A clip's pictures, as an ingest would give them."""
    picture = f"testsrc2=size={size}:rate={FPS}:duration={SECONDS}"
    group = ("-g", str(FPS), "-keyint_min", str(FPS), "-sc_threshold", "0")
    encoder = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-b:v", "400k", *group)
    command = (FFMPEG, "-loglevel", "error", "-y", "-f", "lavfi", "-i", picture, *encoder, *options)
    subprocess.run([*command, "-video_track_timescale", str(SCALE), str(path)], check=True)
    packets: list[Packet] = []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        width, height = (int(side) for side in size.split("x"))
        config = stream.codec_context.extradata
        assert config is not None and stream.time_base == Fraction(1, SCALE)
        track = Track(1, Codec.H264, SCALE, config, width=width, height=height, declared_fps=FPS)
        first = None
        for number, packet in enumerate(each for each in container.demux(stream) if each.size):
            assert packet.dts is not None and packet.pts is not None
            first = packet.dts if first is None else first
            group = number // FPS
            dts, cts = packet.dts - first, packet.pts - packet.dts
            key, data = packet.is_keyframe, bytes(packet)
            packets.append(Packet(track, dts, cts, SCALE // FPS, key, data, group, group, 0, 0))
    return packets


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[Packet]]:
    """Clips by their options, made once."""
    folder = tmp_path_factory.mktemp("clips")
    made: dict[tuple[str, ...], list[Packet]] = {}

    def clip(*options: str, size: str = "320x180") -> list[Packet]:
        key = (size, *options)
        if key not in made:
            made[key] = encode(folder / f"{len(made)}.mp4", *options, size=size)
        return made[key]

    return clip


@pytest.fixture(scope="module")
def double() -> Iterator[RunningGateway]:
    """One gateway for all tests; each restarts it and begins without faults."""
    with RunningGateway("--preset", "ultrafast") as gateway:
        yield gateway


@pytest.fixture
def gateway(double: RunningGateway) -> RunningGateway:
    double.control("restart")
    double.control("orchestrators", 3)
    double.control("latency", 0)
    double.control("forget")
    double.no_faults()
    return double


class WallClock:
    def now(self) -> float:
        return trio.current_time()


@dataclass
class Run:
    """What came of a stream."""

    counts: Counts = field(default_factory=Counts)
    out: list[Released | FellBack] = field(default_factory=list)
    stopped: str = ""

    @property
    def released(self) -> list[Released]:
        return [each for each in self.out if isinstance(each, Released)]

    @property
    def fallen(self) -> list[FellBack]:
        return [each for each in self.out if isinstance(each, FellBack)]


async def offload(
    packets: Sequence[Packet],
    *gateways: Gateway,
    profiles: Sequence[Profile] = PROFILES,
    settings: OffloadSettings | None = None,
    breaks: Mapping[int, Callable[[], None]] | None = None,
    speed: float = 8.0,
) -> Run:
    """Feed the pictures at `speed` times real time and wait until each segment is decided.

    `breaks`: before these pictures, when all before them but one are decided.
    """
    run = Run()
    engine = Engine("My Show", Gateways(gateways), run.counts, Random(1), settings or PATIENT)
    news = trio.Event()

    def deliver(out: Released | FellBack) -> None:
        run.out.append(out)
        news.set()

    async def decided(count: int) -> None:
        nonlocal news
        while sum([len(each.segment.packets) for each in run.out]) < count:
            news = trio.Event()
            await news.wait()

    with trio.fail_after(WAIT_S):
        async with GatewayClient() as client, trio.open_nursery() as nursery:
            await nursery.start(serve_offload, engine, client, WallClock(), deliver)
            track = None
            for number, packet in enumerate(packets):
                if packet.track is not track:
                    track = packet.track
                    engine.begin(track, profiles, trio.current_time())
                if breaks and number in breaks:
                    await decided(number - 1)
                    breaks[number]()
                engine.picture(packet, trio.current_time())
                await trio.sleep(1 / FPS / speed)
            engine.flush(trio.current_time())
            await decided(len(packets))
            nursery.cancel_scope.cancel()
    run.stopped = engine.stopped
    return run


def check_aligned(released: Sequence[Released]) -> None:
    """Renditions decode, and stand at their source's times."""
    newest: dict[str, int] = {}
    for out in released:
        packets = out.segment.packets
        times = {packet.pts for packet in packets}
        for rendition in out.renditions:
            name, pictures = rendition.profile.name, rendition.pictures
            assert pictures[0].place == 0 and pictures[0].keyframe
            assert {picture.pts for picture in pictures} <= times
            for picture in pictures:
                dts = packets[picture.place].dts
                assert newest.get(name, -1) < dts <= picture.pts
                newest[name] = dts
            if not rendition.profile.fps_num:
                assert len(pictures) == len(packets)
            assert decoded(rendition) == len(pictures)


def decoded(rendition: Rendition) -> int:
    """Pictures that a decoder shows of it."""
    avcc = parse_avcc_untrusted(rendition.config)
    context = av.CodecContext.create("h264", "r")
    sets = b"".join(START_CODE + unit for unit in (*avcc.sps, *avcc.pps))
    count = 0
    for picture in [*rendition.pictures, None]:
        data = None if picture is None else av.Packet(sets + sample_to_annexb_untrusted(picture.data))
        for frame in context.decode(data):
            assert (frame.width, frame.height) == (rendition.width, rendition.height)
            count += 1
    return count


@pytest.mark.parametrize("reordered", [False, True])
async def test_renditions_decode_and_align(
    gateway: RunningGateway, clips: Callable[..., list[Packet]], reordered: bool
) -> None:
    options = ("-bf", "3", "-x264-params", "b-pyramid=normal") if reordered else ()
    run = await offload(clips(*options), Gateway(gateway.url))
    assert not run.fallen, run.fallen[0].reason
    assert [len(out.segment.packets) for out in run.released] == [60, 60, 60]
    check_aligned(run.released)
    assert run.counts.media_ms == SECONDS * 1000
    assert run.counts.rendition_ms == 2 * SECONDS * 1000
    pushes = gateway.log()
    assert len({push["manifest_id"] for push in pushes}) == 1
    assert [push["sequence"] for push in pushes] == [0, 1, 2]
    assert max(push["in_flight"] for push in pushes) <= 2


async def test_source_changes_its_size_and_starts_49_days_in(
    gateway: RunningGateway, clips: Callable[..., list[Packet]]
) -> None:
    start = 49 * 86_400 * SCALE
    first, second = clips(), clips(size="240x136")
    ahead = start + SECONDS * SCALE
    packets = [msgspec.structs.replace(packet, dts=packet.dts + start) for packet in first]
    packets += [msgspec.structs.replace(packet, dts=packet.dts + ahead) for packet in second[:90]]
    run = await offload(packets, Gateway(gateway.url))
    assert not run.fallen, run.fallen[0].reason
    check_aligned(run.released)
    assert run.released[-1].segment.order.width == 240
    assert run.released[-1].renditions[0].width == 160
    assert len({push["manifest_id"] for push in gateway.log()}) == 2


BAD_ANSWERS = {
    "empty": "bad_empty",
    "garbage": "bad_damaged",
    "missing": "bad_missing",
    "renamed": "bad_names",
    "other-segment": "bad_times",
    "wrong-size": "bad_size",
    "source": "bad_unchanged",
    "oversized": "bad_bytes",
    "cut": "broken",
    # A kept connection that breaks at once is taken for one that had been closed: sent again, not counted.
    "drop": "",
    "reset": "",
    "overloaded": "503",
    "transcode": "422",
    "restart": "",
}


async def test_each_bad_answer_costs_a_retry(
    gateway: RunningGateway, clips: Callable[..., list[Packet]]
) -> None:
    kinds = list(BAD_ANSWERS)
    once = clips()
    packets = [
        msgspec.structs.replace(packet, dts=packet.dts + again * SECONDS * SCALE)
        for again in range(len(kinds) // SECONDS + 1)
        for packet in once
    ][: len(kinds) * FPS]
    gateway.control(
        "faults", [{"fault": kind, "sequence": number, "times": 1} for number, kind in enumerate(kinds)]
    )
    one_by_one = {number * FPS + 1: lambda: None for number in range(1, len(kinds))}
    settings = OffloadSettings(target_s=1.0, budget_s=WAIT_S)
    run = await offload(packets, Gateway(gateway.url), settings=settings, speed=60, breaks=one_by_one)
    assert not run.fallen, run.fallen[0].reason
    check_aligned(run.released)
    assert [out.segment.number for out in run.released] == list(range(len(kinds)))
    expected = Counter(counted for counted in BAD_ANSWERS.values() if counted)
    assert run.counts.failures == expected
    struck = [push["fault"] for push in gateway.log() if push["fault"]]
    assert struck == kinds


@pytest.mark.parametrize("kind", ["hang", "stall", "slow", "forbidden", "full"])
async def test_a_gateway_that_never_serves_is_left_in_time(
    gateway: RunningGateway, clips: Callable[..., list[Packet]], kind: str
) -> None:
    gateway.fault(kind, delay_s=20) if kind == "slow" else gateway.fault(kind)
    began = trio.current_time()
    settings = OffloadSettings(budget_s=1.0)
    run = await offload(clips()[:90], Gateway(gateway.url), settings=settings, speed=30)
    assert not run.released
    assert [out.segment.number for out in run.fallen] == [0, 1]
    assert trio.current_time() - began < 15
    assert bool(run.stopped) == (kind == "forbidden")


async def test_another_gateway_takes_over_and_none_is_left(
    gateway: RunningGateway, clips: Callable[..., list[Packet]]
) -> None:
    with RunningGateway("--preset", "ultrafast", "--dialect", "frameworks", "--job-token", "abc") as second:
        breaks = {61: gateway.refuse, 121: second.refuse}
        gateways = Gateway(gateway.url), Gateway(second.url, "frameworks", job_token="abc")
        try:
            run = await offload(clips(), *gateways, profiles=PROFILES[:1], breaks=breaks)
        finally:
            gateway.control("listen")
        assert [type(out).__name__ for out in run.out] == ["Released", "Released", "FellBack"]
        assert {push["status"] for push in second.log()} == {200}
    check_aligned(run.released)


async def test_a_real_gateway(clips: Callable[..., list[Packet]]) -> None:
    url = os.environ.get("FWNODE_GATEWAY_URL")
    if not url:
        pytest.skip("FWNODE_GATEWAY_URL names no gateway: none can be had from a package registry")
    settings = OffloadSettings(budget_s=20.0)
    run = await offload(clips(size="640x360"), Gateway(url), settings=settings, speed=1)
    assert not run.fallen, run.fallen[0].reason
    check_aligned(run.released)

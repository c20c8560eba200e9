"""One stream's pictures in, decided segments out."""

from random import Random

import msgspec
from livepeer_sources import CONTENT_TYPE, PROFILE, SOURCE, framed, made, source

from media.bitstream import h264
from media.track.model import Packet
from media.transcode.livepeer.counts import Counts
from media.transcode.livepeer.engine import Engine
from media.transcode.livepeer.gateways import Gateways
from media.transcode.livepeer.multipart import Part
from media.transcode.livepeer.order import Gateway
from media.transcode.livepeer.rendition import examine_untrusted
from media.transcode.livepeer.schedule import Attempt, Outcome, Released


class Bench:
    """An engine whose gateway answers as the test says."""

    def __init__(self, gateways: int = 1) -> None:
        self.rings = 0
        self.gateways = Gateways([Gateway(f"http://g{n}") for n in range(gateways)])
        self.engine = Engine("show", self.gateways, Counts(), Random(1))
        self.engine.on_work = self.ring

    def ring(self) -> None:
        self.rings += 1

    def feed(self, packets: list[Packet]) -> list[Attempt]:
        for packet in packets:
            self.engine.picture(packet, 0.0)
        return self.engine.attempts(0.0)

    def answer(self, attempt: Attempt, config: bytes = SOURCE.config) -> None:
        body = framed([Part(PROFILE.name, "video/mp2t", made(attempt.segment))])
        (rendition,) = examine_untrusted(attempt.segment, CONTENT_TYPE, body)
        renditions = (msgspec.structs.replace(rendition, config=config),)
        self.engine.ended(attempt.number, Outcome("answer", 200, renditions=renditions), 0.1)


def test_segments_go_out_and_come_back() -> None:
    bench = Bench()
    assert not bench.engine.refusal(SOURCE)
    bench.engine.begin(SOURCE, [PROFILE], 0.0)
    (first,) = bench.feed(source(80))
    assert bench.rings == 2
    bench.engine.flush(0.0)
    (second,) = bench.engine.attempts(0.0)
    assert [len(each.segment.packets) for each in (first, second)] == [60, 20]
    bench.answer(second)
    assert not bench.engine.outputs()
    bench.answer(first)
    assert [out.segment.number for out in bench.engine.outputs()] == [0, 1]


def test_times_never_wrap_within_a_run() -> None:
    bench = Bench()
    bench.engine.begin(SOURCE, [PROFILE], 0.0)
    hours = 21 * 3600 * 90_000
    later = [msgspec.structs.replace(packet, dts=packet.dts + hours) for packet in source(240)[60:]]
    first, second = bench.feed([*source(60), *later])
    bench.answer(first)
    bench.answer(second)
    (third, *_) = bench.engine.attempts(0.0)
    ids = [each.segment.order.manifest_id for each in (first, second, third)]
    assert len(set(ids)) == 2 and ids[0] != ids[2]
    assert third.segment.presentation()[0] < 90_000 * 15
    assert all(isinstance(out, Released) for out in bench.engine.outputs())


def test_other_profiles_are_another_run() -> None:
    bench = Bench()
    bench.engine.begin(SOURCE, [PROFILE], 0.0)
    bench.feed(source(40))
    bench.engine.begin(SOURCE, [msgspec.structs.replace(PROFILE, name="other")], 0.0)
    attempts = bench.feed(source(100)[30:])
    assert [each.segment.order.profiles[0].name for each in attempts] == ["180p", "other"]
    assert attempts[0].segment.order.manifest_id != attempts[1].segment.order.manifest_id


def test_another_encoders_sets_go_in_band() -> None:
    bench = Bench()
    bench.engine.begin(SOURCE, [PROFILE], 0.0)
    first, second = bench.feed(source(130))
    avcc = h264.parse_avcc_untrusted(SOURCE.config)
    other = h264.avcc_untrusted(avcc.sps, [b"\x68\xce\x3c\x80"])
    bench.answer(first)
    bench.answer(second, other)
    before, after = (out for out in bench.engine.outputs() if isinstance(out, Released))
    assert before.renditions[0].config == after.renditions[0].config == SOURCE.config
    assert b"\x68\xce\x3c\x80" in after.renditions[0].pictures[0].data
    assert b"\x68\xce\x3c\x80" not in before.renditions[0].pictures[0].data


def test_what_is_refused_before_it_is_sent() -> None:
    assert Bench(0).engine.refusal(SOURCE) == "no gateway is configured"
    bench = Bench()
    assert bench.engine.refusal(msgspec.structs.replace(SOURCE, width=10_000))
    bench.engine.begin(SOURCE, [PROFILE], 0.0)
    bench.feed(source(130))
    bench.engine.stop("enough")
    assert [out.kind for out in bench.engine.outputs() if not isinstance(out, Released)] == ["stopped"] * 2
    assert bench.engine.refusal(SOURCE) == "enough"

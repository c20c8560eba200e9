"""Renditions beside the source's sound."""

import msgspec
from livepeer_sources import CONTENT_TYPE, PROFILE, STEP, cut, framed, made, order, source

from media.track.model import Codec, Packet, Track
from media.transcode.livepeer.ladder import LadderSplice
from media.transcode.livepeer.multipart import Part
from media.transcode.livepeer.order import Profile
from media.transcode.livepeer.rendition import examine_untrusted
from media.transcode.livepeer.schedule import FellBack, Released
from media.transcode.livepeer.segmenter import Segment

SOUND = Track(2, Codec.AAC, 48_000, b"\x11\x90", sample_rate=48_000, channels=2)
THIN = Profile("90p", 90, 320, 180, 200_000, 15)


def released(segment: Segment) -> Released:
    full, thin = made(segment), made(segment, keep=lambda number: number % 2 == 0)
    data = {PROFILE.name: full, THIN.name: thin}
    body = framed([Part(each.name, "video/mp2t", data[each.name]) for each in segment.order.profiles])
    return Released(segment, examine_untrusted(segment, CONTENT_TYPE, body))


def sound(number: int) -> Packet:
    """Beside picture `number`."""
    at = number // 30
    return Packet(SOUND, number * 1600, 0, 1600, True, b"s%d" % number, at, at, 0, 0)


def fed(splice: LadderSplice, packets: list[Packet]) -> None:
    for number, packet in enumerate(packets):
        splice.source(packet, leads=True)
        splice.source(sound(number), leads=False)


def test_sound_stays_where_it_stood_and_marks_are_the_sources() -> None:
    packets = source(120)
    first, second = cut(packets, order_=order(PROFILE, THIN))
    splice = LadderSplice()
    fed(splice, packets)
    assert not splice.take()
    splice.decided(released(first))
    out = splice.take()
    assert splice.changed
    assert [(track.id, track.declared_fps) for track in splice.tracks] == [(180, 30.0), (90, 15.0)]
    assert len(out) == 60 + 30 + 60
    assert [packet.data for packet in out if packet.track is SOUND] == [b"s%d" % n for n in range(60)]
    made_ = [packet for packet in out if packet.track.id == 180]
    assert [(p.dts, p.pts, p.group, p.segment, p.part) for p in made_] == [
        (p.dts, p.pts, p.group, p.segment, p.part) for p in packets[:60]
    ]
    thin = [packet for packet in out if packet.track.id == 90]
    assert {packet.duration for packet in thin[1:]} == {2 * STEP}
    splice.decided(released(second))
    assert len(splice.take()) == 150


def test_a_segment_that_fell_back_is_a_gap() -> None:
    packets = source(180)
    first, second, third = cut(packets)
    splice = LadderSplice()
    fed(splice, packets)
    splice.decided(released(first))
    splice.decided(FellBack(second, "late", ""))
    splice.decided(released(third))
    pictures = [packet for packet in splice.take() if packet.track is not SOUND]
    assert [bool(packet.data) for packet in pictures] == [True] * 60 + [False] * 60 + [True] * 60
    assert [packet.dts for packet in pictures] == [packet.dts for packet in packets]
    assert pictures[120].keyframe


def test_nothing_comes_before_the_first_renditions() -> None:
    packets = source(120)
    first, second = cut(packets)
    splice = LadderSplice()
    fed(splice, packets)
    splice.decided(FellBack(first, "500", ""))
    splice.decided(released(second))
    out = splice.take()
    assert out[0].dts == 60 * STEP and out[0].keyframe
    assert out[1].data == b"s60"
    assert len(out) == 120


def test_pictures_that_no_segment_has_are_gaps() -> None:
    packets = source(120)
    first, second = cut(packets)
    splice = LadderSplice()
    fed(splice, packets)
    splice.decided(released(first))
    splice.take()
    cut_short = Segment(second.order, 1, second.packets[10:20], second.duration, second.base, b"", "unfit")
    splice.decided(FellBack(cut_short, "unfit", ""))
    rest = [packet for packet in splice.take() if packet.track is not SOUND]
    assert [packet.dts for packet in rest] == [packet.dts for packet in packets[60:80]]
    assert not any(packet.data for packet in rest)


def test_a_new_section_has_tracks_of_its_own() -> None:
    packets = source(120)
    later = [msgspec.structs.replace(packet, discontinuity=1) for packet in packets[60:]]
    first, second = cut(packets[:60])[0], cut(later)[0]
    splice = LadderSplice()
    for packet in (*packets[:60], *later):
        splice.source(packet, leads=True)
    splice.decided(released(first))
    splice.decided(released(second))
    assert [packet.discontinuity for packet in splice.take()] == [0] * 60
    before = splice.tracks
    splice.changed = False
    assert [packet.discontinuity for packet in splice.take()] == [1] * 60
    assert splice.changed and splice.tracks[0].init > before[0].init

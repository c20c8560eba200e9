"""What came back: is it what was ordered, and where does each picture belong?"""

import msgspec
import pytest
from livepeer_sources import CONTENT_TYPE, PROFILE, SOURCE, STEP, cut, framed, made, order, source

from media.bitstream.annexb import split_sample_untrusted
from media.errors import WireError
from media.transcode.livepeer.multipart import Part, boundary_untrusted, split_parts_untrusted
from media.transcode.livepeer.order import Profile
from media.transcode.livepeer.rendition import (
    Rejected,
    examine_untrusted,
    expected_sizes,
    with_sets_in_band,
)
from media.transcode.livepeer.segmenter import Segment

SEGMENT = cut(source(120))[0]
THIN = Profile("180p", 180, 320, 180, 400_000, 15)


def answer(data: bytes, name: str = "180p", kind: str = "video/mp2t") -> bytes:
    return framed([Part(name, kind, data)])


def rejected(segment: Segment, body: bytes, content_type: str = CONTENT_TYPE) -> str:
    with pytest.raises(Rejected) as caught:
        examine_untrusted(segment, content_type, body)
    assert str(caught.value)
    return caught.value.kind


@pytest.mark.parametrize("shift", [0, 1, -4000, 40_000, 1 << 33])
def test_pictures_are_laid_on_the_sources_times(shift: int) -> None:
    (rendition,) = examine_untrusted(SEGMENT, CONTENT_TYPE, answer(made(SEGMENT, shift=shift)))
    assert (rendition.width, rendition.height) == (320, 180)
    assert [picture.pts for picture in rendition.pictures] == [packet.pts for packet in SEGMENT.packets]
    assert [picture.place for picture in rendition.pictures] == list(range(60))
    assert [picture.keyframe for picture in rendition.pictures] == [True] + [False] * 59


def test_a_thinned_rendition_takes_every_second_place() -> None:
    segment = cut(source(120), order_=order(THIN))[0]
    body = answer(made(segment, keep=lambda number: number % 2 == 0))
    (rendition,) = examine_untrusted(segment, CONTENT_TYPE, body)
    assert [picture.place for picture in rendition.pictures] == list(range(0, 60, 2))
    assert rejected(SEGMENT, body) == "pictures"


def test_a_source_with_reordered_pictures() -> None:
    packets = [
        msgspec.structs.replace(packet, cts=STEP * (2, 4, 1, 1)[n % 30 % 4] if n % 30 < 28 else 2 * STEP)
        for n, packet in enumerate(source(60))
    ]
    segment = cut(packets)[0]
    (rendition,) = examine_untrusted(segment, CONTENT_TYPE, answer(made(segment)))
    assert [picture.pts for picture in rendition.pictures] == sorted(packet.pts for packet in packets)
    assert all(picture.pts >= packets[picture.place].dts for picture in rendition.pictures)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", "empty"),
        (b"<html>", "framing"),
        (answer(made(SEGMENT))[:-4], "framing"),
        (answer(made(SEGMENT))[:2000], "framing"),
        (framed([]), "framing"),
        (framed([Part("180p", "video/mp2t", made(SEGMENT))] * 2), "names"),
        (answer(made(SEGMENT), name="360p"), "names"),
        (answer(made(SEGMENT), kind="video/mp4"), "type"),
        (answer(b"https://x/y.ts", kind="application/vnd+livepeer.uri"), "elsewhere"),
        (answer(SEGMENT.body), "unchanged"),
        (answer(b""), "damaged"),
        (answer(b"\x47" * 188), "damaged"),
        (answer(made(SEGMENT)[:-1880]), "pictures"),
        (answer(made(SEGMENT)[:-100]), "damaged"),
        (answer(made(SEGMENT, shift=90_000)), "times"),
        (answer(made(SEGMENT, shift=-180_000)), "times"),
        (answer(made(SEGMENT, keep=lambda n: n < 40)), "pictures"),
        (answer(made(SEGMENT, idr=False)), "keyframe"),
        (answer(made(cut(source(120, gop=120))[0])), "pictures"),
        (answer(bytes(3_000_000)), "framing"),
    ],
)
def test_what_is_wrong_is_named(body: bytes, kind: str) -> None:
    assert rejected(SEGMENT, body) == kind


def test_the_answers_type_must_be_right() -> None:
    body = answer(made(SEGMENT))
    for kind in (
        "",
        "text/html",
        "multipart/mixed",
        "multipart/mixed; boundary=",
        "multipart/mixed; boundary=a b",
    ):
        assert rejected(SEGMENT, body, kind) == "framing"
    assert boundary_untrusted('Multipart/Mixed; charset=x; boundary="abc"') == "abc"


def test_missing_and_cut_renditions() -> None:
    two = cut(source(60), order_=order(PROFILE, msgspec.structs.replace(PROFILE, name="90p")))[0]
    assert rejected(two, answer(made(two))) == "missing"
    swapped = framed([Part(name, "video/mp2t", made(two)) for name in ("90p", "180p")])
    assert rejected(two, swapped) == "names"


def test_another_size_is_rejected() -> None:
    wanted = cut(source(60), order_=order(Profile("180p", 180, 640, 360, 400_000)))[0]
    assert rejected(wanted, answer(made(wanted))) == "size"


@pytest.mark.parametrize(
    ("ordered", "source_size", "own"),
    [
        ((640, 360), (1280, 720), (640, 360)),
        ((640, 360), (720, 1280), (360, 640)),  # upright: the longer side counts
        ((640, 360), (1280, 960), (640, 480)),
        ((106, 60), (320, 180), (146, 82)),  # a transcoder makes no smaller ones
        ((160, 40), (1280, 320), (200, 50)),
    ],
)
def test_sizes_by_the_gateways_own_rule(
    ordered: tuple[int, int], source_size: tuple[int, int], own: tuple[int, int]
) -> None:
    profile = msgspec.structs.replace(PROFILE, width=ordered[0], height=ordered[1])
    assert expected_sizes(profile, *source_size) == [ordered, own]


def test_sets_go_in_band_before_keyframes() -> None:
    (rendition,) = examine_untrusted(SEGMENT, CONTENT_TYPE, answer(made(SEGMENT)))
    changed = with_sets_in_band(rendition)
    kinds = [unit[0] & 31 for unit in split_sample_untrusted(changed.pictures[0].data)]
    assert kinds == [7, 8, 5]
    assert changed.pictures[1:] == rendition.pictures[1:]
    assert SOURCE.config == rendition.config


def test_parts_are_bounded_before_they_are_read() -> None:
    body = answer(bytes(1000))
    assert split_parts_untrusted(body, "94eaf473f7957940e066", part_bytes_max=1000)[0].data == bytes(1000)
    for bad in (
        body.replace(b"Content-Length: 1000", b"Content-Length: 1001"),
        body.replace(b"Content-Length: 1000", b"Content-Length: 999"),
        body.replace(b"Content-Length: 1000", b"Content-Length: -1"),
        body.replace(b"Content-Length: 1000", b"Content-Length: 99999999999"),
        body.replace(b"Content-Length: 1000\r\n", b""),
        body.replace(b"Rendition-Name: ", b"Rendition-Name"),
    ):
        with pytest.raises(WireError):
            split_parts_untrusted(bad, "94eaf473f7957940e066", part_bytes_max=2000)
    with pytest.raises(WireError):
        split_parts_untrusted(body, "94eaf473f7957940e066", part_bytes_max=999)

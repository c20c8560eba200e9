from fwbench import playlist
from fwbench.playlist import Edge

MEDIA = b"""#EXTM3U
#EXT-X-TARGETDURATION:2
#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=1.50000,CAN-SKIP-UNTIL=12.0
#EXT-X-PART-INF:PART-TARGET=0.50000
#EXT-X-MEDIA-SEQUENCE:40
#EXT-X-MAP:URI="init-0.mp4"
#EXT-X-PROGRAM-DATE-TIME:2026-11-23T10:00:00.000Z
#EXTINF:2.00000,
40.m4s
#EXT-X-PROGRAM-DATE-TIME:2026-11-23T10:00:02.000Z
#EXT-X-PART:DURATION=1.00000,URI="41.0.m4s",INDEPENDENT=YES
#EXT-X-PART:DURATION=1.00000,URI="41.1.m4s"
#EXTINF:2.00000,
41.m4s
#EXT-X-PROGRAM-DATE-TIME:2026-11-23T10:00:04.000Z
#EXT-X-PART:DURATION=0.50000,URI="42.0.m4s",INDEPENDENT=YES
#EXT-X-PRELOAD-HINT:TYPE=PART,URI="42.1.m4s"
"""
TOP = b"""#EXTM3U
#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="audio",NAME="a",URI="a2/index.m3u8"
#EXT-X-STREAM-INF:BANDWIDTH=3000000,AUDIO="audio"
v1/index.m3u8
#EXT-X-STREAM-INF:BANDWIDTH=1000000,AUDIO="audio"
v3/index.m3u8
"""


def test_edge_is_the_newest_part_and_the_hint() -> None:
    assert playlist.edge(MEDIA) == Edge(b"42.0.m4s", b"42.1.m4s", 42, 1)


def test_edge_just_after_a_segment_ended() -> None:
    cut = MEDIA[: MEDIA.index(b"#EXT-X-PROGRAM-DATE-TIME:2026-11-23T10:00:04")]
    edge = playlist.edge(cut + b'#EXT-X-PRELOAD-HINT:TYPE=PART,URI="42.0.m4s"\n')
    assert edge == Edge(b"41.1.m4s", b"42.0.m4s", 42, 0)


def test_no_edge_without_a_hint_or_with_a_strange_one() -> None:
    assert playlist.edge(b"#EXTM3U\n") is None
    assert playlist.edge(MEDIA[: MEDIA.index(b"#EXT-X-PRELOAD")]) is None
    assert playlist.edge(MEDIA.replace(b"42.1.m4s", b"next.m4s")) is None


def test_lists() -> None:
    assert playlist.parts(MEDIA) == [b"41.0.m4s", b"41.1.m4s", b"42.0.m4s"]
    assert playlist.segments(MEDIA) == [b"40.m4s", b"41.m4s"]
    assert playlist.first_independent(MEDIA) == b"41.0.m4s"
    assert playlist.init(MEDIA) == b"init-0.mp4"
    assert playlist.renditions(TOP) == [b"v1/index.m3u8", b"a2/index.m3u8"]


def test_attributes() -> None:
    assert playlist.attribute(MEDIA, b"PART-HOLD-BACK", 9) == 1.5
    assert playlist.attribute(MEDIA, b"PART-TARGET", 9) == 0.5
    assert playlist.attribute(MEDIA, b"HOLD-BACK", 9) == 9


def test_edge_time_adds_what_follows_the_last_date() -> None:
    start = playlist.edge_time(MEDIA[: MEDIA.index(b"#EXT-X-PROGRAM-DATE-TIME:2026-11-23T10:00:02")])
    assert start is not None
    assert playlist.edge_time(MEDIA) == start + 2.5  # 40 ended at :02, 42.0 ends at :04.5
    assert playlist.edge_time(b"#EXTM3U\n") is None
    assert playlist.edge_time(b"#EXT-X-PROGRAM-DATE-TIME:soon\n") is None


def test_resolve() -> None:
    assert playlist.resolve(b"/live/x/v1/index.m3u8?token=a", b"4.m4s") == b"/live/x/v1/4.m4s"
    assert playlist.resolve(b"/live/x/index.m3u8", b"/other") == b"/other"

"""FLV bodies and AMF: what we write reads back as it was; anything at all raises only RemoteError."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from media.container import amf, flv, flv_parse
from media.errors import RemoteError, WireError
from media.track.model import Codec, Kind, Packet, Track

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine is shared
DOPS = bytes.fromhex("000201380000bb80000000")
CONFIGS = {
    Codec.H264: b"avcC",
    Codec.HEVC: b"hvcC",
    Codec.AV1: b"av1C",
    Codec.VP9: b"\1\0\0\0" + b"12345678",
    Codec.AAC: b"\x11\x90",
    Codec.OPUS: DOPS,
    Codec.FLAC: b"\x80\0\0\x22" + bytes(10) + bytes.fromhex("0bb802f0") + bytes(20),
    Codec.AC3: b"",
    Codec.EAC3: b"",
}


def parse(kind: Kind, body: bytes) -> list[flv_parse.Event]:
    untrusted = flv_parse.parse_video_untrusted if kind is Kind.VIDEO else flv_parse.parse_audio_untrusted
    return list(untrusted(body))


@unhurried
@given(
    st.sampled_from(list(Codec)),
    st.integers(0, flv_parse.MAX_TRACK_INDEX),
    st.integers(0, 1 << 40),
    st.integers(0, 90_000),
    st.booleans(),
    st.binary(min_size=1, max_size=60),
)
def test_frames_and_headers_read_back(
    codec: Codec, index: int, dts: int, cts: int, keyframe: bool, data: bytes
) -> None:
    number = flv.track_id(codec.kind, index)
    track = Track(number, codec, 90_000, CONFIGS[codec])
    assert parse(codec.kind, flv.sequence_header(track, index)) == [
        flv_parse.SequenceHeader(number, codec, track.config)
    ]
    if codec is Codec.AV1:
        data = b"\x32" + bytes((len(data),)) + data
    audio = codec.kind is Kind.AUDIO
    packet = Packet(track, dts, cts, 0, keyframe or audio, data, 1, 1, 0, 0)
    (frame,) = parse(codec.kind, flv.frame_head(packet, index) + data)
    assert isinstance(frame, flv_parse.CodedFrame)
    assert (frame.track_id, frame.codec, frame.keyframe, frame.data) == (number, codec, packet.keyframe, data)
    if codec in (Codec.H264, Codec.HEVC):
        assert abs(frame.cts_ms - cts / 90) <= 1


@unhurried
@given(
    st.lists(
        st.tuples(st.sampled_from([8, 9, 18]), st.integers(0, (1 << 32) - 1), st.binary(max_size=50)),
        max_size=9,
    )
)
def test_tags_read_back(tags: list[tuple[int, int, bytes]]) -> None:
    data = b"".join(flv._tag(kind, time_ms, body) for kind, time_ms, body in tags)
    assert list(flv_parse.split_tags_untrusted(data)) == tags


@unhurried
@given(st.sampled_from(list(Kind)), st.binary(max_size=100))
def test_any_body_raises_only_remote_errors(kind: Kind, body: bytes) -> None:
    try:
        parse(kind, body)
    except RemoteError:
        pass


@unhurried
@given(
    st.sampled_from([b"\x96", b"\x97", b"\x95", b"\x90", b"\x91"]),
    st.binary(max_size=8),
    st.sampled_from([b"", b"avc1", b"hvc1", b"av01", b"vp09", b"Opus", b"fLaC", b"ac-3", b"mp4a"]),
    st.binary(max_size=60),
)
def test_almost_enhanced_bodies_raise_only_remote_errors(
    first: bytes, middle: bytes, fourcc: bytes, rest: bytes
) -> None:
    for kind in Kind:
        try:
            parse(kind, first + middle + fourcc + rest)
        except RemoteError:
            pass


@unhurried
@given(st.binary(max_size=200))
def test_any_script_raises_only_wire_errors(body: bytes) -> None:
    for data in (body, amf.encode("onMetaData") + body):
        try:
            flv_parse.parse_metadata_untrusted(data)
        except WireError:
            pass


values: st.SearchStrategy[amf.Value] = st.recursive(
    st.one_of(st.none(), st.booleans(), st.floats(allow_nan=False), st.text(max_size=30)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=5),
        st.dictionaries(st.text(min_size=1, max_size=10), inner, max_size=5),
        st.dictionaries(st.text(min_size=1, max_size=10), inner, max_size=5).map(amf.EcmaArray),
    ),
    max_leaves=30,
)


@unhurried
@given(st.lists(values, max_size=5))
def test_amf_reads_back(given_values: list[amf.Value]) -> None:
    assert amf.decode_untrusted(amf.encode(*given_values)) == given_values


@unhurried
@given(st.binary(max_size=300))
def test_any_amf_raises_only_wire_errors(data: bytes) -> None:
    for candidate in (data, b"\x11" + data, b"\x11\x09" + data, b"\x11\x0a" + data):
        try:
            amf.decode_untrusted(candidate)
        except WireError:
            pass

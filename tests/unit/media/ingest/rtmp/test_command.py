"""Names, keys and capabilities out of commands."""

import pytest

from media.container import amf
from media.container.amf import Value
from media.errors import WireError
from media.ingest.rtmp.command import Address, ConnectInfo, address, connect_info, parse_command_untrusted
from media.track.model import Codec


def connect(**given: Value) -> ConnectInfo:
    return connect_info(parse_command_untrusted(amf.encode("connect", 1.0, given), 0, amf3=False))


@pytest.mark.parametrize(
    ("name", "app", "tc_url", "expected"),
    [
        ("show", "live", "rtmp://h/live", Address("show", "", "")),
        ("show?key=K", "live", "rtmp://h/live", Address("show", "K", "")),
        ("show?token=T&key=K", "live", "", Address("show", "K", "T")),
        ("show", "live?key=K", "", Address("show", "K", "")),
        ("show", "live", "rtmp://h/live?key=K", Address("show", "K", "")),
        ("show?key=A", "live?key=B", "rtmp://h/live?key=C", Address("show", "A", "")),
        ("", "live/show", "", Address("show", "", "")),
        ("?key=K", "live/show", "", Address("show", "K", "")),
        ("/show/", "live", "", Address("show", "", "")),
        ("a%20b", "live", "", Address("a b", "", "")),
        ("", "live", "", Address("", "", "")),
        ("sk_8f3a", "live", "", Address("sk_8f3a", "", "")),
    ],
)
def test_addresses(name: str, app: str, tc_url: str, expected: Address) -> None:
    assert address(name, connect(app=app, tcUrl=tc_url)) == expected


def test_a_client_that_says_nothing_of_codecs() -> None:
    info = connect(app="live", flashVer="LNX 9,0,124,2")
    assert info.codecs is None
    assert not info.enhanced
    assert (info.agent, info.caps) == ("LNX 9,0,124,2", 0)


def test_codecs_by_list_and_by_map() -> None:
    assert connect(fourCcList=["Hvc1", "av01", 5.0]).codecs == {Codec.HEVC, Codec.AV1}
    assert connect(fourCcList=["*"]).codecs == set(Codec)
    mapped = connect(
        videoFourCcInfoMap={"vp09": 1.0, "av01": 2.0}, audioFourCcInfoMap={"Opus": 5.0}, capsEx=3.0
    )
    assert mapped.codecs == {Codec.VP9, Codec.OPUS}
    assert mapped.caps == 3


@pytest.mark.parametrize("caps", [float("nan"), float("inf"), -1.0, 1e300, "x", None])
def test_nonsense_capabilities_are_none(caps: Value) -> None:
    assert connect(capsEx=caps, videoFourCcInfoMap={"hvc1": float("nan")}).caps == 0


def test_a_command_needs_a_name() -> None:
    for payload in (b"", amf.encode(1.0), amf.encode(None)):
        with pytest.raises(WireError, match="without a name"):
            parse_command_untrusted(payload, 0, amf3=False)


def test_arguments_of_other_types_read_as_nothing() -> None:
    command = parse_command_untrusted(amf.encode("x", 1.0, None, 5.0, "five", float("nan")), 0, amf3=False)
    assert (command.text(0), command.text(1), command.text(9)) == ("", "five", "")
    assert (command.number(0), command.number(1), command.number(2), command.number(9)) == (
        5.0,
        0.0,
        0.0,
        0.0,
    )


def test_long_texts_are_cut() -> None:
    assert len(connect(flashVer="x" * 5000).agent) == 1024

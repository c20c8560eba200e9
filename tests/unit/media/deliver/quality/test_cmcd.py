"""What a player says with its requests."""

import pytest

from media.deliver.http.request import FieldSet, Head, Request
from media.deliver.quality.cmcd import (
    KEYS_MAX,
    TEXT_MAX,
    Cmcd,
    cmcd_text,
    parse_cmcd_untrusted,
    sighting_of,
    without_cmcd,
)
from media.deliver.quality.model import THROUGHPUT_MAX_KBPS
from media.errors import WireError


def request(target: str, **fields: str) -> Request:
    named = {b"host": b"h", **{name.replace("_", "-").encode(): v.encode() for name, v in fields.items()}}
    head = Head("GET", target.encode(), "1.1", FieldSet(named), True)
    return Request(head, b"", 1.0, "192.0.2.1", 5, False)


def test_the_standards_example() -> None:
    """CTA-5004 6, with every key."""
    said = (
        'bl=21300,br=3200,bs,cid="faec5fc2-ac30-11ea-bb37-0242ac130002",d=4004,dl=18500,mtp=48100,'
        'nor="..%2F300kbps%2Ftrack.m4v",nrr="12323-48763",ot=v,pr=1.08,rtp=12000,sf=d,'
        'sid="6e2fb550-c457-11e9-bb97-0800200c9a66",st=v,su,tb=6000'
    )
    assert parse_cmcd_untrusted(said) == Cmcd(
        sid="6e2fb550-c457-11e9-bb97-0800200c9a66",
        sf="d",
        st="v",
        ot="v",
        su=True,
        bs=True,
        bl=21300,
        br=3200,
        tb=6000,
        d=4004,
        dl=18500,
        mtp=48100,
        pr=1.08,
    )


def test_what_is_not_understood_is_passed_over() -> None:
    said = 'com.example-x="a,\\"b",bl=many,mtp=-5,br=(3000;v),su=?0,bs=perhaps,pr=1.,ot=video,sid=abc , v=1'
    assert parse_cmcd_untrusted(said) == Cmcd(sid="abc")
    assert parse_cmcd_untrusted("") == Cmcd()
    assert parse_cmcd_untrusted("sid=" + '"' + "x" * 65 + '"') == Cmcd()


@pytest.mark.parametrize(
    "text",
    [
        ",",
        "=1",
        'sid="a',
        "a=1;b=2,,",
        "bs bs",
        "x" * 65,
        "a=" + " " * 900 + '"',
        "é",
        "a," * (KEYS_MAX + 1),
        "a" * (TEXT_MAX + 1),
    ],
)
def test_what_is_no_list_of_keys(text: str) -> None:
    with pytest.raises(WireError):
        parse_cmcd_untrusted(text)


def test_in_the_query_and_in_header_fields() -> None:
    query = request("/live/a/v1/index.m3u8?_HLS_msn=4&CMCD=bs%2Csid%3D%22one%22")
    fields = request("/live/a/v1/1.m4s", cmcd_session='sid="one"', cmcd_status="bs", cmcd_request="bl=400")
    assert query.head.cmcd and cmcd_text(query) == 'bs,sid="one"'
    assert fields.head.cmcd and parse_cmcd_untrusted(cmcd_text(fields)) == Cmcd(sid="one", bs=True, bl=400)
    neither = request("/live/a/v1/index.m3u8?_HLS_msn=4")
    assert not neither.head.cmcd and cmcd_text(neither) == ""


def test_a_sighting_is_within_its_bounds_and_names_nobody() -> None:
    asked = request("/live/a/v1/index.m3u8", user_agent="curl")
    seen = sighting_of(Cmcd(sid="one", mtp=10**11, bs=True), asked, "v1")
    assert (seen.throughput_kbps, seen.starved, seen.rendition) == (THROUGHPUT_MAX_KBPS, 1, "v1")
    assert sighting_of(Cmcd(), asked, "V1\n" * 9).rendition == ""
    assert (
        sighting_of(Cmcd(), asked, "v1").session == sighting_of(Cmcd(), asked, "v2").session != seen.session
    )


def test_a_query_without_it() -> None:
    assert without_cmcd("token=a&CMCD=sid%3D1&b=c") == "token=a&b=c"
    assert without_cmcd("token=a") == "token=a"

"""Targets, queries, fields and tokens of a request."""

import pytest

from media.deliver.http.errors import BadRequest
from media.deliver.http.request import FieldSet, Head, Request, accepts_gzip, split_target_untrusted


def request(target: bytes = b"/", **fields: bytes) -> Request:
    named = {name.replace("_", "-").encode(): value for name, value in fields.items()}
    head = Head("GET", target, "1.1", FieldSet({b"host": b"h", **named}), True)
    return Request(head, b"", 1.0, "192.0.2.1", 5, False)


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"/", "/", ""),
        (b"/live/a%20b/index.m3u8?x=1&y=%2F", "/live/a b/index.m3u8", "x=1&y=%2F"),
        (b"/%C3%A9t%C3%A9", "/été", ""),
        (b"/a//b/", "/a//b/", ""),
        (b"/.well-known/x", "/.well-known/x", ""),
        (b"/a...b", "/a...b", ""),
        (b"http://h:80/a?b", "/a", "b"),
        (b"HTTPS://h", "/", ""),
        (b"http://h?b", "/", "b"),
    ],
)
def test_targets(target: bytes, path: str, query: str) -> None:
    assert split_target_untrusted("GET", target) == (path, query)


@pytest.mark.parametrize(
    "target",
    [
        b"",
        b"a",
        b"*",
        b"h:80",
        b"ftp://h/a",
        b"/a/..",
        b"/./a",
        b"/a/%2e%2E/b",
        b"/a%2Fb",
        b"/a%5cb",
        b"/a\\b",
        b"/%00",
        b"/%7f",
        b"/%80",
        b"/a#b",
        b"/a?b#c",
        b"/a?\xff",
    ],
)
def test_targets_that_are_refused(target: bytes) -> None:
    if target == b"/a#b":
        assert split_target_untrusted("GET", target) == ("/a#b", "")  # a name like any other; no file is
        return
    with pytest.raises(BadRequest):
        split_target_untrusted("GET", target)


def test_asterisk_is_for_options() -> None:
    assert split_target_untrusted("OPTIONS", b"*") == ("/", "")


def test_query_takes_the_first_of_a_name() -> None:
    asked = request(b"/a?x=1&x=2&y=&z&u=%ff&plus=a+b")
    assert [asked.query(name) for name in ("x", "y", "z", "u", "plus", "none")] == [
        "1",
        "",
        "",
        "\ufffd",
        "a b",
        None,
    ]


def test_segments() -> None:
    assert request(b"/live/show/v1/index.m3u8").segments == ("live", "show", "v1", "index.m3u8")
    assert request(b"/").segments == ("",)


def test_bearer_from_query_or_field() -> None:
    assert request(b"/a?token=t1", authorization=b"Bearer t2").bearer() == "t1"
    assert request(authorization=b"bearer  t2 ").bearer() == "t2"
    assert request(authorization=b"Basic dTpw").bearer() == ""
    assert request().bearer() == ""


@pytest.mark.parametrize(
    ("value", "accepted"),
    [
        (b"", False),
        (b"gzip", True),
        (b"br, GZIP;q=0.5", True),
        (b"gzip;q=0", False),
        (b"gzip; q=0.000", False),
        (b"deflate, br", False),
        (b"*", True),
        (b"identity", False),
    ],
)
def test_gzip_acceptance(value: bytes, accepted: bool) -> None:
    assert accepts_gzip(value) is accepted


def test_plain_requests_are_told_from_those_with_conditions() -> None:
    assert request().head.plain
    assert not request(if_none_match=b'"a"').head.plain
    assert not request(range=b"bytes=0-1").head.plain

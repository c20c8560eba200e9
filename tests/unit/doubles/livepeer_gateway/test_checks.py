"""The order of the checks and what each of them says."""

import pytest
from livepeer_gateway.checks import (
    BODY_BYTES_MAX,
    FRAMEWORKS,
    UPSTREAM,
    Refused,
    answer_by_s,
    duration_ms,
    read_head,
    read_rest,
)
from livepeer_gateway.configuration import Configuration

PATH = "/live/movie/1.ts"


def refusal(method: str, path: str, **headers: str) -> tuple[int, str]:
    given = {name.replace("_", "-"): value for name, value in headers.items()} | {"host": "h"}
    with pytest.raises(Refused) as caught:
        push = read_rest(path, given, read_head(method, path, given, UPSTREAM))
        duration_ms(push, given)
    return caught.value.status, caught.value.text


@pytest.mark.livepeer("2.1")
def test_each_check_and_its_words() -> None:
    bad = {"livepeer_transcode_configuration": "[]"}
    slice_ = {"content_slice_from": "5", "content_slice_to": "4"}
    assert refusal("GET", "/live/.m3u8", **bad) == (
        405,
        "http push request wrong method=GET url=http://h/live/.m3u8 host=h",
    )
    status, text = refusal("PUT", "/live/.m3u8", **bad)
    assert status == 400
    assert text.startswith('failed to parse transcode config header: "')
    assert refusal("PUT", "/live/.m3u8", **slice_) == (400, "ignoring file extension: .m3u8")
    assert refusal("PUT", "/live/.ts", **slice_)[1].startswith("Invalid slice config from=5")
    assert refusal("PUT", "/live/.ts") == (400, "Bad URL url=http://h/live/.ts")
    for duration in ("-1", "300001"):
        assert refusal("POST", PATH, content_duration=duration) == (
            500,
            "http push error processing segment url=http://h/live/movie/1.ts manifestID=movie "
            'err="invalid duration"',
        )


@pytest.mark.livepeer("2.1", "5.1")
def test_what_passes() -> None:
    push = read_rest(PATH, {"accept": "multipart/mixed", "content-slice-from": "x"}, None)
    assert push.wants_parts
    assert push.clip_ms is None
    assert duration_ms(push, {"content-duration": "soon"}) == 2000
    for other in ("multipart/mixed, */*", "*/*", "Multipart/Mixed", ""):
        assert not read_rest(PATH, {"accept": other}, None).wants_parts
    assert read_rest(PATH, {"content-slice-from": "4", "content-slice-to": "5"}, None).clip_ms == (4, 5)


@pytest.mark.livepeer("12.3")
def test_the_deadline_of_frameworks() -> None:
    assert answer_by_s(None, 0, "live", 2000) == 2.5
    assert answer_by_s(None, 0, "vod", 2000) == 29.5
    assert answer_by_s(None, 4000, "live", 2000) == 3.5
    assert answer_by_s(Configuration(deadline_ms=1000), 4000, "live", 2000) == 0.5
    assert answer_by_s(Configuration(deadline_ms=100), 0, "live", 2000) == 0


@pytest.mark.livepeer("12.1")
def test_a_header_that_one_dialect_takes() -> None:
    headers = {"livepeer-transcode-configuration": '{"manifestID":"m"}'}
    assert read_head("POST", PATH, headers, UPSTREAM) == Configuration(manifest_id="m")
    with pytest.raises(Refused):
        read_head("POST", PATH, headers, FRAMEWORKS)


@pytest.mark.livepeer("1.3")
def test_the_largest_body_is_the_longest_segment_at_8_mbps() -> None:
    assert BODY_BYTES_MAX == 300 * 8_000_000 // 8

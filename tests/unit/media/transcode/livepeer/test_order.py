"""Addresses, names and requests."""

import json
from random import Random

import msgspec
import pytest
from livepeer_sources import PROFILE, cut, order, source

from media.transcode.livepeer.gateways import Gateways
from media.transcode.livepeer.order import Gateway, checked, manifest_id
from media.transcode.livepeer.request import answer_bytes_max, build_request

SEGMENT = cut(source(60))[0]


@pytest.mark.parametrize(
    "url",
    [
        "", "gateway:8935", "ftp://gateway", "http://", "http://u:p@gateway", "http://gateway/?a=b",
        "http://gateway/#x", "http://gateway/a b", "http://gateway:99999", "http://gateway/olive", "http://g\r\nX:y",
        "http://[::1", "http://gateway/" + "a" * 600,
    ],
)  # fmt: skip
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        checked(Gateway(url))


def test_addresses_that_are() -> None:
    assert checked(Gateway("https://gateway.example/lp/")).url == "https://gateway.example/lp"
    assert checked(Gateway("http://[::1]:8935")).url == "http://[::1]:8935"
    with pytest.raises(ValueError, match="authorization"):
        checked(Gateway("http://g", authorization="Bearer x\r\nHost: y"))
    with pytest.raises(ValueError, match="token"):
        checked(Gateway("http://g", "frameworks", job_token="x" * 20_000))
    with pytest.raises(ValueError, match="at most"):
        Gateways([Gateway("http://g")] * 17)


@pytest.mark.parametrize("name", ["My Show!", "live", "olive", "stream", "mylive", "a/b", "", "x" * 100, "ü"])
def test_manifest_ids_survive_the_gateways_rule(name: str) -> None:
    identifier = manifest_id(name, Random(3))
    assert len(identifier) <= 63
    assert identifier[0] not in "-" and set(identifier) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    path = f"/live/{identifier}/3.ts"
    assert "live/" not in path[len("/live/") :]
    assert manifest_id(name, Random(4)) != identifier


def test_a_request_is_what_both_dialects_take() -> None:
    request = build_request(checked(Gateway("http://gateway:8935/lp")), SEGMENT)
    headers = dict(request.headers)
    assert request.target == "/lp/live/live-0badcafe/0.ts"
    assert headers["Host"] == "gateway:8935"
    assert headers["Accept"] == "multipart/mixed"
    assert headers["Content-Duration"] == "2000"
    assert headers["Content-Resolution"] == "640x360"
    assert headers["Content-Length"] == str(len(SEGMENT.body))
    assert "Authorization" not in headers
    config = json.loads(headers["Livepeer-Transcode-Configuration"])
    assert set(config) == {"profiles", "workload"}
    (profile,) = config["profiles"]
    assert profile == {
        "name": "180p", "width": 320, "height": 180, "bitrate": 400_000, "fps": 0, "fpsDen": 1,
        "profile": "H264ConstrainedHigh", "gop": "0.0",
    }  # fmt: skip
    assert request.answer_bytes_max < 4_000_000


def test_frameworks_is_told_deadline_and_token() -> None:
    gateway = Gateway("https://gateway", "frameworks", "Bearer abc", "token")
    headers = dict(build_request(gateway, SEGMENT).headers)
    config = json.loads(headers["Livepeer-Transcode-Configuration"])
    assert (config["deadlineMs"], config["jobToken"]) == (6000, "token")
    assert headers["Authorization"] == "Bearer abc"


def test_an_answer_is_bounded_by_all_renditions() -> None:
    more = cut(source(60), order_=order(PROFILE, msgspec.structs.replace(PROFILE, name="90p")))[0]
    assert answer_bytes_max(more) > 1.9 * answer_bytes_max(SEGMENT) - 10_000

"""The configuration header as Go's decoder reads it, and as the FrameWorks fork does."""

import json

import pytest
from livepeer_gateway.configuration import (
    Configuration,
    ConfigurationError,
    ladder,
    read_frameworks,
    read_upstream,
)
from livepeer_gateway.profiles import Profile, ProfileError, checked, gop_seconds

P = '{"name":"a","width":160,"height":90,"bitrate":100000}'


def one(fields: str) -> str:
    return f'{{"profiles":[{{{fields}}}]}}'


@pytest.mark.livepeer("4.1")
@pytest.mark.parametrize(
    "text",
    [
        one('"fps":29.97'),
        one('"width":1.0'),
        one('"width":1e3'),
        one('"width":"1"'),
        one('"width":true'),
        one('"gop":2'),
        one('"fps":-1'),
        one('"name":7'),
        f'{{"width":{2**63}}}'.join(('{"profiles":[', "]}")),
        '{"profiles":{}}',
        '{"profiles":[1]}',
        '{"presets":[1]}',
        '{"manifestID":1}',
        '{"forceSessionReinit":1}',
        "[]",
        "1",
        "{} x",
        "{",
        '{"a":NaN}',
        "[" * 100_000,
        "",
    ],
)
def test_what_upstream_refuses(text: str) -> None:
    with pytest.raises(ConfigurationError):
        read_upstream(text)


@pytest.mark.livepeer("4.1")
def test_what_upstream_takes() -> None:
    assert read_upstream("null") == Configuration()
    assert read_upstream('{"other":1.5,"MANIFESTid":"m"}').manifest_id == "m"
    assert read_upstream('{"manifestID":"m","manifestid":"n"}').manifest_id == "n"
    assert read_upstream('{"manifestID":"m","manifestID":null}').manifest_id == "m"
    assert read_upstream('{"profiles":null}').profiles is None
    assert read_upstream('{"profiles":[null]}').profiles == (Profile(),)
    asked = one('"Name":"a","fps":30000,"FPSDEN":1001,"gop":"2.5","quality":23')
    assert read_upstream(asked).profiles == (Profile("a", fps=30000, fps_den=1001, gop="2.5", quality=23),)


@pytest.mark.livepeer("4.2")
def test_ladder() -> None:
    assert [p.name for p in ladder(Configuration())] == ["P240p30fps16x9", "P360p30fps16x9"]
    assert ladder(Configuration(profiles=())) == ()
    both = read_upstream(f'{{"profiles":[{P}],"presets":["P720p30fps16x9","none such"]}}')
    assert [p.name for p in ladder(both)] == ["P720p30fps16x9", "a"]
    assert ladder(Configuration(presets=("none such",)))[0].name == "P240p30fps16x9"


@pytest.mark.livepeer("4.3")
def test_profiles_that_cannot_be() -> None:
    for bad in (Profile(profile="h265"), Profile(encoder="h.264"), Profile(gop="-1"), Profile(gop="x")):
        with pytest.raises(ProfileError):
            checked(bad)
    good = checked(Profile(width=160, height=90, bitrate=9, profile="H264ConstrainedHigh"))
    assert (good.name, good.encoder) == ("custom_160x90_9", "H.264")
    assert [gop_seconds(gop) for gop in ("", "0.0", "2.5", "intra")] == [0, 0, 2.5, -1]


@pytest.mark.livepeer("12.1")
@pytest.mark.parametrize(
    "text",
    [
        '{"manifestID":"m"}',
        '{"timeoutMultiplier":2}',
        '{"Profiles":[]}',
        f'{{"profiles":[{P}],"profiles":[{P}]}}',
        json.dumps({"profiles": [{"name": str(n)} for n in range(17)]}),
        '{"workload":"file"}',
        '{"deadlineMs":3600001}',
        '{"deadlineMs":-1}',
        '{"deadlineMs":1.5}',
        '{"minSpeed":101}',
        '{"minSpeed":"1"}',
        json.dumps({"jobToken": "x" * 16385}),
        '{"jobToken":1}',
        one('"fps":29.97'),
        "null",
        "[]",
    ],
)
def test_what_frameworks_refuses(text: str) -> None:
    with pytest.raises(ConfigurationError):
        read_frameworks(text)


@pytest.mark.livepeer("12.1")
def test_what_both_dialects_take() -> None:
    text = f'{{"profiles":[{P}],"workload":"vod","deadlineMs":4000,"minSpeed":0.5,"jobToken":"t"}}'
    read = read_frameworks(text)
    assert read.profiles == read_upstream(text).profiles
    assert (read.workload, read.deadline_ms, read.min_speed, read.job_token) == ("vod", 4000, 0.5, "t")

"""Whatever comes in, readers raise only their own errors, and framing is undone by a strict reader."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from livepeer_gateway.configuration import ConfigurationError, read_frameworks, read_upstream
from livepeer_gateway.framing import Part, multipart, multipart_type
from livepeer_gateway.naming import target_of
from livepeer_gateway.pushing import Answer
from livepeer_gateway.webhook import Denied, judged, judged_strictly

KEYS = st.sampled_from(["profiles", "presets", "manifestID", "fps", "gop", "deadlineMs", "workload"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)
BOUNDARY = "94eaf473f7957940e066"


@given(VALUES.map(json.dumps) | st.text(max_size=30))
def test_configurations(text: str) -> None:
    for read in (read_upstream, read_frameworks):
        try:
            read(text)
        except ConfigurationError:
            pass


@given(st.binary(max_size=30) | VALUES.map(lambda value: json.dumps(value).encode()))
def test_replies_of_webhooks(body: bytes) -> None:
    for judge in (judged, judged_strictly):
        try:
            judge(200, body)
        except Denied:
            pass


@given(st.text(max_size=40))
def test_paths(text: str) -> None:
    target = target_of("/live/" + text)
    assert 0 <= target.sequence < 2**64
    assert "/" not in target.manifest_id


@pytest.mark.livepeer("5.2")
@given(st.lists(st.binary(max_size=60), max_size=4))
def test_framing_is_undone(bodies: list[bytes]) -> None:
    parts = [Part(f"p{number}", 3, ".ts", data) for number, data in enumerate(bodies)]
    body = b"".join(multipart(parts, BOUNDARY))
    answer = Answer(200, {"content-type": multipart_type(BOUNDARY)}, body)
    assert [rendition.data for rendition in answer.renditions] == bodies
    with pytest.raises(ValueError, match=r"end|part"):
        _ = Answer(200, answer.headers, body[:-1]).renditions

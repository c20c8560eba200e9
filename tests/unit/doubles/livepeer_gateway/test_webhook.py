"""What a webhook's reply means."""

import json

import pytest
from livepeer_gateway.configuration import Configuration
from livepeer_gateway.profiles import Profile
from livepeer_gateway.webhook import FRAMEWORKS_REPLY, Denied, Mismatch, judged, judged_strictly, merged


@pytest.mark.livepeer("8.1")
def test_replies() -> None:
    assert judged(200, b"") is None
    assert judged(200, b'{"manifestID":"m"}') == Configuration(manifest_id="m")
    for status, body in ((403, b""), (201, b""), (200, b"{}"), (200, b"no"), (200, b"\xff")):
        with pytest.raises(Denied):
            judged(status, body)


@pytest.mark.livepeer("8.2")
def test_header_and_webhook() -> None:
    hook = Configuration(manifest_id="m", profiles=(Profile("a"),))
    header = Configuration(profiles=(Profile("a"),))
    assert merged(hook, header).manifest_id == ""  # the reply is lost as a whole
    assert merged(hook, None) is hook
    assert merged(None, None) == Configuration()
    for other in (Configuration(), Configuration(profiles=(Profile("b"),))):
        with pytest.raises(Mismatch):
            merged(hook, other)


@pytest.mark.livepeer("12.2")
def test_frameworks_wants_nine_keys() -> None:
    reply: dict[str, object] = {key: "" for key in FRAMEWORKS_REPLY}
    reply |= {"manifestID": "m", "profiles": [], "deadlineMs": 0, "minSpeed": 0}
    assert judged_strictly(200, json.dumps(reply).encode()).manifest_id == "m"
    for bad in (reply | {"more": 1}, {"manifestID": "m"}):
        with pytest.raises(Denied):
            judged_strictly(200, json.dumps(bad).encode())
    for body in (b"", b"[]", b"no"):
        with pytest.raises(Denied):
            judged_strictly(200, body)

"""Who may publish what, and the sentence that whoever may not is told."""

import pytest

from fwnode.gate import NodeGate
from fwnode.keys import Keyring, make_key
from media.errors import Refused
from media.ingest.gate import PlayRequest, PublishRequest
from media.track.registry import RegistrySettings, Streams
from media.track.stream import Stream

UNIX_US = 1_700_000_000_000_000


class NoTimer:
    def cancel(self) -> None:
        pass


def no_stop(reason: str) -> None:
    raise AssertionError(reason)


class Node:
    """A gate with three keys."""

    def __init__(self, *, open_ingest: bool = False) -> None:
        self.streams = Streams(
            RegistrySettings(), call_at=lambda when, callback: NoTimer(), measure=lambda track, data: None
        )
        self.ring = Keyring()
        self.any = self.key(1, "*")
        self.stage = self.key(2, "stage")
        self.cams = self.key(3, "cam-*")
        self.gate = NodeGate(
            self.ring,
            self.streams,
            open_ingest=open_ingest,
            reserved=frozenset(("demo",)),
            unix_us=lambda: UNIX_US,
        )

    def key(self, number: int, pattern: str) -> str:
        text, key = make_key(bytes([number]) * 20, pattern, "", number)
        self.ring.add(key)
        return text

    def publish(self, stream: str, key: str = "", agent: str = "obs") -> Stream:
        request = PublishRequest("rtmp", stream, key, "192.0.2.7", 5, agent)
        return self.gate.publish(request, no_stop, 1.0).stream


def test_the_key_as_stream_name_gives_the_keys_stream() -> None:
    node = Node()
    assert node.publish(node.any).name == "live"
    assert node.publish(node.stage).name == "stage"


def test_a_stream_that_another_node_has_is_refused_to_who_may_publish_it() -> None:
    node = Node()
    node.gate.refusal = lambda name, now: f"{name} is elsewhere" if name == "stage" else ""
    with pytest.raises(Refused, match="stage is elsewhere"):
        node.publish(node.stage)
    with pytest.raises(Refused, match="not valid"):
        node.publish("stage", "sk_" + "a" * 32)
    assert node.publish(node.any).name == "live"
    assert node.gate.refused == 2


def test_a_name_and_a_key() -> None:
    node = Node()
    assert node.publish("anything", node.any).name == "anything"
    assert node.publish("stage", node.stage).name == "stage"
    assert node.publish("cam-2", node.cams).name == "cam-2"


def test_a_key_alone_as_key() -> None:
    node = Node()
    assert node.publish("", node.stage).name == "stage"


def test_the_source_names_the_key_by_its_id_only() -> None:
    node = Node()
    source = node.publish(node.stage, agent="OBS\x1b[31m" + "x" * 200).source
    assert source is not None
    assert source.key_id == node.ring.all()[1].id
    assert source.peer == "192.0.2.7:5"
    assert source.agent.startswith("OBS?[31m") and len(source.agent) == 120
    assert node.stage not in repr(source)


def test_use_is_remembered() -> None:
    node = Node()
    node.publish(node.stage)
    assert list(node.ring.take_used().values()) == [1_700_000_000]


@pytest.mark.parametrize(
    ("stream", "key", "says"),
    [
        ("", "", "needs a stream key"),
        ("live", "", "needs a stream key"),
        ("live", "wrong", "not valid here"),
        ("sk_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "", "not valid here"),
        ("stage2", "stage", "is for stage, not for stage2"),
        ("", "cams", "is for streams called cam-*: say which"),
        ("stage", "cams", "is for streams called cam-*, not for stage"),
        ("Live", "any", "'Live' cannot be a stream's name"),
        ("a/b", "any", "cannot be a stream's name"),
        ("demo", "any", "the node's own test stream"),
    ],
)
def test_refusals_say_what_to_do(stream: str, key: str, says: str) -> None:
    node = Node()
    with pytest.raises(Refused) as caught:
        node.publish(stream, getattr(node, key, key) if key else "")
    assert says in str(caught.value)
    assert "sk_a" not in str(caught.value)
    assert node.gate.refused == 1 and len(node.streams) == 0
    assert node.ring.take_used() == {}


def test_a_key_given_as_name_beside_a_key_is_not_shown() -> None:
    node = Node()
    with pytest.raises(Refused, match="a stream key' cannot be"):
        node.publish(node.stage, node.any)


def test_open_ingest() -> None:
    node = Node(open_ingest=True)
    assert node.publish("mine").name == "mine"
    assert node.publish("").name == "live"
    assert node.publish("mine2", "whatever").name == "mine2"
    assert node.publish(node.stage).name == "stage"
    with pytest.raises(Refused, match="not valid here"):
        node.publish("sk_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")
    with pytest.raises(Refused, match="test stream"):
        node.publish("demo")


def test_a_revoked_key_is_refused() -> None:
    node = Node()
    node.ring.revoke(node.ring.all()[0].id)
    with pytest.raises(Refused, match="revoked"):
        node.publish(node.any)


def test_draining_refuses_publishers_only() -> None:
    node = Node()
    node.publish(node.any)
    node.gate.drain()
    with pytest.raises(Refused, match="stopping"):
        node.publish(node.stage)
    assert node.gate.play(PlayRequest("hls", "live", "", "192.0.2.7", 5, ""), 1.0) is node.streams.get("live")


def test_unknown_streams_are_none_and_leave_nothing() -> None:
    node = Node()
    for name in ("nothing", "", "../x", "\x00", "x" * 1000):
        assert node.gate.play(PlayRequest("hls", name, "", "192.0.2.7", 5, ""), 1.0) is None
    assert len(node.streams) == 0

"""Nodes that are members of one network."""

from functools import partial

from live_node import LiveNode, StartNode, until


def network(start: StartNode, count: int, *options: str) -> list[LiveNode]:
    """So many members, which all know each other; the first made the network. Segments of one second."""
    nodes = [
        start("--name", f"n{number}", *options, ingest__open=True, hls__segment_s=1)
        for number in range(count)
    ]
    line = nodes[0].cli_json("invite", "--uses", "10")["invite"]
    for node in nodes[1:]:
        node.cli("join", line)
    for node in nodes:
        until(partial(_knows, node, count), "all know each other")
    return nodes


def await_carried(node: LiveNode, owner: str, stream: str) -> None:
    """The directory at `node` says that `owner` has the stream."""

    def told() -> bool:
        peers = {peer["name"]: peer for peer in node.cli_json("peers")["peers"]}
        return stream in peers[owner]["streams"]

    until(told, f"{owner} is known to have the stream")


def _knows(node: LiveNode, count: int) -> bool:
    return len(node.cli_json("peers")["peers"]) == count

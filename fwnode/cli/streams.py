"""`fwnode streams`."""

import sys
import time
from typing import Annotated, Any

import typer

from fwnode.cli import control
from fwnode.cli.network import printable
from fwnode.cli.output import Json, bitrate, duration, print_json, print_table
from fwnode.cli.settings import DataDir
from fwnode.errors import UsageError

WATCH_INTERVAL_S = 2.0  # bitrates are means over this long
CLEAR_SCREEN = "\x1b[H\x1b[2J"
HEADING = ("STREAM", "STATE", "SOURCE", "TRACKS", "VIEWERS", "THEY SEE", "AGE", "FINDINGS")


def streams(
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Show again every 2 s until Ctrl-C.")] = False,
    tree: Annotated[
        bool,
        typer.Option("--tree", help="Show which node takes which stream from whom, in the whole network."),
    ] = False,
    data_dir: DataDir = None,
    admin: control.Admin = None,
    json: Json = False,
) -> None:
    """Show the streams of the node: who sends them, what is in them, who watches, what is wrong."""
    if watch and json:
        raise UsageError("--watch is for people; programs follow /api/v1/events of the admin address")
    node = control.find(data_dir, admin)
    while True:
        answer = node.get("/tree" if tree else "/streams")
        if json:
            print_json(answer)
        else:
            if watch and sys.stdout.isatty():
                sys.stdout.write(CLEAR_SCREEN)
            if tree:
                _show_trees(answer)
            else:
                _show(answer["streams"])
        if not watch:
            return
        time.sleep(WATCH_INTERVAL_S)


def _show(found: list[dict[str, Any]]) -> None:
    if not found:
        typer.echo("No streams. `fwnode run --demo` has one to try; `fwnode key new` makes a key for OBS.")
        return
    print_table(HEADING, [_row(stream) for stream in found])


def _row(stream: dict[str, Any]) -> tuple[str, ...]:
    source = stream["source"]
    viewers = ", ".join(f"{count} {protocol}" for protocol, count in sorted(stream["viewers"].items()))
    return (
        stream["name"],
        stream["state"],
        _source(stream["place"], source),
        "\n".join(describe_track(track) for track in stream["tracks"]) or "-",
        viewers or "0",
        seen(stream["quality"]),
        duration(stream["age_s"]),
        "\n".join(f"{finding['message']} → {finding['fix']}" for finding in stream["findings"]) or "none",
    )


def _source(place: dict[str, Any] | None, source: dict[str, Any] | None) -> str:
    """Who publishes it here, or which node it is taken from."""
    if place is not None and place["copy"]:
        hops = f"{place['depth']} hop{'s' if place['depth'] > 1 else ''} from {place['origin_name']}"
        return printable(f"from {place['parent_name']}, {hops}" if place["parent"] else "from no node now")
    return f"{source['protocol']} {source['peer']}" if source else "-"


def seen(quality: dict[str, Any] | None) -> str:
    """What viewers see on one line: "latency 0.9 s, stalls 0.1 %"."""
    if quality is None:
        return "-"
    said = []
    if quality["latency_ms"]:
        said.append(f"latency {quality['latency_ms']['p50'] / 1000:.1f} s")
    if quality["stall_ratio"] is not None:
        said.append(f"stalls {100 * quality['stall_ratio']:.1f} %")
    if quality["startup_ms"]:
        said.append(f"start {quality['startup_ms']['p50'] / 1000:.1f} s")
    if not said and quality["cmcd"]:
        said.append(f"{quality['cmcd']['starved']} buffers ran dry")
    return ", ".join(said) or "-"


def _show_trees(answer: dict[str, Any]) -> None:
    if not answer["trees"]:
        typer.echo("No node of the network says that it has a stream.")
    for number, tree in enumerate(answer["trees"]):
        if number:
            typer.echo("")
        for line in tree_lines(tree):
            typer.echo(printable(line))
    if answer["left_out"]:
        typer.echo(f"... and {answer['left_out']} more entries")


def tree_lines(tree: dict[str, Any]) -> list[str]:
    """One publication: a heading, then its nodes below their parents."""
    nodes = tree["nodes"]
    known = {node["node"] for node in nodes}
    children: dict[str, list[dict[str, Any]]] = {}
    for node in nodes:
        above = node["parent"] if node["parent"] in known else ""
        children.setdefault(above, []).append(node)
    old = "" if tree["current"] else ", replaced by a newer publication"
    lines = [f"{tree['stream']}: published on {tree['origin_name']}, {_count(len(nodes))}{old}"]
    shown: set[str] = set()

    def add(node: dict[str, Any], head: str, tail: str) -> None:
        if node["node"] in shown:
            return
        shown.add(node["node"])
        lines.append(head + _node_text(node, known))
        below = children.get(node["node"], [])
        for child in below:
            last = child is below[-1]
            add(child, tail + ("└─ " if last else "├─ "), tail + ("   " if last else "│  "))

    for root in children.get("", []):
        add(root, "", "")
    for node in nodes:  # those whose parents, by what they say, lead in a circle
        add(node, "? ", "  ")
    return lines


def _node_text(node: dict[str, Any], known: set[str]) -> str:
    depth = node["depth"]
    said = [node["name"], "origin" if depth == 0 else f"{depth} hop{'s' if depth > 1 else ''}"]
    if node["bitrate_bps"]:
        said.append(bitrate(node["bitrate_bps"]))
    if node["uplink_bps"] is not None:
        budget = f" of {bitrate(node['uplink_budget_bps'])}" if node["uplink_budget_bps"] else ""
        said.append(f"sends {bitrate(node['uplink_bps'])}{budget}")
    if node["parent"] and node["parent"] not in known:
        said.append(f"from {node['parent'][:8]}, which does not say so")
    return "  ".join(said)


def _count(nodes: int) -> str:
    return "1 node" if nodes == 1 else f"{nodes} nodes"


def describe_track(track: dict[str, Any]) -> str:
    """One line: "v1 h264 1920x1080 60 fps 6.0 Mb/s"."""
    if track["kind"] == "video":
        what = f"{track['width']}x{track['height']} {track['frame_rate']:.3g} fps"
    else:
        what = f"{track['sample_rate'] / 1000:g} kHz {track['channels']} ch"
    return f"{track['name']} {track['codec']} {what} {bitrate(track['bitrate_bps'])}"

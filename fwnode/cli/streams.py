"""`fwnode streams`."""

import sys
import time
from typing import Annotated, Any

import typer

from fwnode.cli import control
from fwnode.cli.output import Json, bitrate, duration, print_json, print_table
from fwnode.cli.settings import DataDir
from fwnode.errors import UsageError

WATCH_INTERVAL_S = 2.0  # bitrates are means over this long
CLEAR_SCREEN = "\x1b[H\x1b[2J"
HEADING = ("STREAM", "STATE", "SOURCE", "TRACKS", "VIEWERS", "AGE", "FINDINGS")


def streams(
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Show again every 2 s until Ctrl-C.")] = False,
    data_dir: DataDir = None,
    admin: control.Admin = None,
    json: Json = False,
) -> None:
    """Show the streams of the node: who sends them, what is in them, who watches, what is wrong."""
    if watch and json:
        raise UsageError("--watch is for people; programs follow /api/v1/events of the admin address")
    node = control.find(data_dir, admin)
    while True:
        answer = node.get("/streams")
        if json:
            print_json(answer)
        else:
            if watch and sys.stdout.isatty():
                sys.stdout.write(CLEAR_SCREEN)
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
        f"{source['protocol']} {source['peer']}" if source else "-",
        "\n".join(describe_track(track) for track in stream["tracks"]) or "-",
        viewers or "0",
        duration(stream["age_s"]),
        "\n".join(f"{finding['message']} → {finding['fix']}" for finding in stream["findings"]) or "none",
    )


def describe_track(track: dict[str, Any]) -> str:
    """One line: "v1 h264 1920x1080 60 fps 6.0 Mb/s"."""
    if track["kind"] == "video":
        what = f"{track['width']}x{track['height']} {track['frame_rate']:.3g} fps"
    else:
        what = f"{track['sample_rate'] / 1000:g} kHz {track['channels']} ch"
    return f"{track['name']} {track['codec']} {what} {bitrate(track['bitrate_bps'])}"

"""`fwnode status`."""

from typing import Any

import typer

from fwnode.cli import control, promise
from fwnode.cli.output import Json, duration, print_json, size
from fwnode.cli.settings import DataDir
from fwnode.cli.streams import seen


def status(data_dir: DataDir = None, admin: control.Admin = None, json: Json = False) -> None:
    """Show whether the node runs, where it listens, and how busy it is."""
    answer = control.find(data_dir, admin).get("/status")
    if json:
        print_json(answer)
        return
    for name, text in _lines(answer):
        typer.echo(f"{name:<12}{text}")


def _lines(answer: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        (answer["name"], f"{answer['state']}, {duration(answer['uptime_s'])}, fwnode {answer['version']}"),
        *((option, address) for option, address in answer["listeners"].items()),
        (
            "streams",
            f"{answer['streams']}, {answer['viewers']} viewers, {answer['edges']} edges, "
            f"{answer['connections']} connections",
        ),
        *([("they see", seen(answer["quality"]))] if answer["quality"] else []),
        ("traffic", f"{size(answer['bytes_in'])} in, {size(answer['bytes_out'])} out"),
        ("process", f"{answer['pid']}, {size(answer['memory_bytes'])} of memory"),
        *(promise.lines(answer["promise"]) if answer.get("promise") else []),
        *_workers(answer["workers"]),
        ("data", answer["data_dir"]),
    ]


def _workers(workers: list[dict[str, Any]]) -> list[tuple[str, str]]:
    if not workers:
        return []
    serving = sum(worker["state"] == "serving" for worker in workers)
    memory = sum(worker["memory_bytes"] for worker in workers)
    restarts = sum(worker["restarts"] for worker in workers)
    return [("workers", f"{serving} of {len(workers)} serve, {size(memory)} of memory, {restarts} restarts")]

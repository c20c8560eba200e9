"""`fwnode devices`."""

import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple

import typer

from fwnode.cli.network import printable
from fwnode.cli.output import Json, print_json, print_table
from fwnode.cli.settings import DataDir, data_folder
from fwnode.errors import NodeError

if TYPE_CHECKING:
    from devices.survey import Finding, Survey

Arguments = TypeVarTuple("Arguments")
Result = TypeVar("Result")
HEADING = ("ENGINE", "KIND", "CODEC", "DEVICE", "USABLE", "MPIXELS/S", "1080P30", "PSNR", "REASON")
CLEAR_LINE = "\r\033[K"
LEGEND = (
    "1080P30: of an encoder, how many ladders it makes at a time (H.264 1080p30 at 6 Mb/s to 1080p30, "
    "720p30, 480p30 and 360p30, decoding and scaling included); of a decoder, how many 1080p30 streams it "
    "decodes. A quarter of the device is kept free."
)


def devices(data_dir: DataDir = None, json: Json = False) -> None:
    """Show which encoders and decoders work on this host, and how much they can do.

    Each is tried and measured in a process of its own: a minute or two the first time, and again after
    a change of hardware, driver or FFmpeg. `fwnode bench devices` measures again.
    """
    folder = data_folder(data_dir)
    survey = remembered(folder) or measured(folder)
    show(survey, json=json)


def remembered(folder: Path) -> "Survey | None":
    """What was measured on this host as it is now. Raises NodeError when FFmpeg cannot be asked."""
    from devices import store
    from devices.trial.service import look_around

    if store.last(folder) is None:
        return None
    _, host = done(look_around)
    return store.load(folder, host)


def measured(folder: Path, *, lines: bool = False) -> "Survey":
    """Measure everything, say how far it is on standard error, keep the result. Raises NodeError."""
    from devices import store
    from devices.trial.service import survey

    progress = Progress(lines=lines)
    try:
        found = done(survey, progress)
    finally:
        progress.end()
    try:
        store.save(folder, found)
    except OSError as error:
        typer.echo(f"fwnode: not kept for the next time: {folder}: {error.strerror}", err=True)
    return found


def done(function: Callable[[*Arguments], Awaitable[Result]], *arguments: *Arguments) -> Result:
    """The result of something that runs trial workers. Raises NodeError, KeyboardInterrupt."""
    import trio

    from devices.errors import DevicesError

    try:
        return trio.run(function, *arguments)
    except DevicesError as error:
        raise NodeError(str(error)) from None
    except BaseExceptionGroup as group:  # Ctrl-C arrives in whichever task runs, inside its nurseries
        if group.subgroup(KeyboardInterrupt) is None:
            raise
        raise KeyboardInterrupt from None


class Progress:
    """Says on standard error how far the trials are: one line on a terminal, one per engine elsewhere."""

    def __init__(self, *, lines: bool) -> None:
        self._terminal = sys.stderr.isatty()
        self._lines = lines and not self._terminal

    def step(self, number: int, count: int, what: str) -> None:
        """Before each trial."""
        if self._terminal:
            typer.echo(f"{CLEAR_LINE}{number} of {count}: {what}", err=True, nl=False)
        elif self._lines:
            typer.echo(f"{number} of {count}: {what}", err=True)

    def found(self, finding: "Finding") -> None:
        """After each trial: those that work stay on the screen."""
        if finding.usable and self._terminal:
            typer.echo(f"{CLEAR_LINE}{finding.kind} {finding.name} works", err=True)

    def end(self) -> None:
        """After all of them."""
        if self._terminal:
            typer.echo(CLEAR_LINE, err=True, nl=False)


def show(survey: "Survey", *, json: bool) -> None:
    """The table for people, or the same for programs."""
    from devices.survey import view

    found = view(survey)
    if json:
        print_json(found)
        return
    print_table(HEADING, [row(engine) for engine in found["engines"]])
    for line in notes(found):
        typer.echo(printable(line))


def row(engine: dict[str, Any]) -> tuple[str, ...]:
    """One engine as people read it."""
    pixels, times, psnr = engine["pixels_per_s"], engine["ladders_1080p30"], engine["psnr_db"]
    sessions = "" if engine["sessions"] is None else f"the driver allows {engine['sessions']} at a time"
    return (
        engine["name"],
        engine["kind"],
        engine["codec"],
        engine["device"],
        "yes" if engine["usable"] else "no",
        "-" if pixels is None else f"{pixels / 1e6:.0f}",
        "-" if times is None else f"{times:.1f}",
        "-" if psnr is None else f"{psnr:.0f} dB",
        printable(engine["reason"] or sessions or "-"),
    )


def notes(found: dict[str, Any]) -> list[str]:
    """What the table stands on."""
    memory = f", {found['memory_bytes'] / 1e9:.0f} GB" if found["memory_bytes"] else ""
    lines = [
        f"cpu: {found['cpu']}, {found['cores']:g} cores' worth{memory}; "
        f"FFmpeg {found['ffmpeg']} in PyAV {found['pyav']}"
    ]
    lines += [f"{one['id']}: {one['name']}" for one in found["devices"] if one["cores"] is None]
    return [*lines, LEGEND]

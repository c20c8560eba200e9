"""`fwnode bench`."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from fwnode.cli.devices import done, measured, remembered, show
from fwnode.cli.output import Json, print_json, print_table
from fwnode.cli.settings import DataDir, data_folder

if TYPE_CHECKING:
    from devices.sample import Compared
    from devices.survey import Survey

HEADING = ("STREAM", "PREDICTED", "MEASURED", "ERROR", "LATER", "ERROR AFTER MEASURING")

app = typer.Typer(help="Measure what this host can do.", no_args_is_help=True)


@app.callback()
def bench() -> None:
    """Measure what this host can do."""


@app.command("devices")
def bench_devices(
    check: Annotated[
        bool,
        typer.Option("--check", help="Transcode ten different streams and compare with what was predicted."),
    ] = False,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Try and measure every encoder and decoder again, whatever was found before."""
    folder = data_folder(data_dir)
    if not check:
        show(measured(folder, lines=True), json=json)
        return
    survey = remembered(folder) or measured(folder, lines=True)
    compared = _compared(survey)
    if json:
        print_json(as_json(compared))
        return
    print_table(HEADING, [row(one) for one in compared])
    for line in notes(compared):
        typer.echo(line)


def _compared(survey: "Survey") -> "list[Compared]":
    from devices.trial.service import compare

    def say(number: int, count: int, what: str) -> None:
        typer.echo(f"{number} of {count}: {what}", err=True)

    return done(compare, survey, say)


def row(one: "Compared") -> tuple[str, ...]:
    """One stream as people read it: cores that it takes."""
    return (
        one.name,
        f"{one.predicted:.2f}",
        f"{one.measured:.2f}",
        f"{one.error:+.0%}",
        f"{one.later:.2f}",
        f"{one.later_error:+.0%}",
    )


def notes(compared: "list[Compared]") -> list[str]:
    """All streams together."""
    from devices.sample import summary

    found = summary(compared)
    return [
        f"All together: {found['predicted']:.2f} cores predicted, {found['measured']:.2f} measured: "
        f"{found['total_error']:+.1%}; of one stream {found['mean_error']:.0%} in the mean, "
        f"{found['worst_error']:.0%} at worst.",
        f"The first half of each stream told the second half to {found['later_total_error']:+.1%} together, "
        f"{found['later_worst_error']:.0%} at worst.",
    ]


def as_json(compared: "list[Compared]") -> dict[str, Any]:
    """The same for programs."""
    from devices.sample import summary

    streams = [
        {"name": one.name, "predicted": one.predicted, "measured": one.measured, "later": one.later}
        for one in compared
    ]
    return {"streams": streams, **summary(compared)}

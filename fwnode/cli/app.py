"""All commands in one application; turns errors into one line and an exit code."""

import os
import sys
from collections.abc import Sequence

import typer

from fwnode.cli import (
    bench,
    config,
    devices,
    doctor,
    drain,
    explain,
    geoip,
    invite,
    join,
    key,
    leave,
    pause,
    peers,
    report,
    resume,
    revoke,
    run,
    speedtest,
    status,
    streams,
    version,
)
from fwnode.errors import FwnodeError

BROKEN_PIPE = 141  # as a shell reports a writer that SIGPIPE ended
INTERRUPTED = 130

app = typer.Typer(
    name="fwnode",
    help="Take a live stream in, show it, and share the work with other nodes.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # help stays plain text: quick to print, and every option whole on its line
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("run")(run.run)
app.command("status")(status.status)
app.command("streams")(streams.streams)
app.command("drain")(drain.drain)
app.command("pause")(pause.pause)
app.command("resume")(resume.resume)
app.command("peers")(peers.peers)
app.command("explain")(explain.explain)
app.command("speedtest")(speedtest.speedtest)
app.command("doctor")(doctor.doctor)
app.command("devices")(devices.devices)
app.command("report")(report.report)
app.command("invite")(invite.invite)
app.command("join")(join.join)
app.command("leave")(leave.leave)
app.command("revoke")(revoke.revoke)
app.add_typer(key.app, name="key")
app.add_typer(bench.app, name="bench")
app.add_typer(geoip.app, name="geoip")
app.add_typer(config.app, name="config")
app.command("version")(version.version)


def run_app(arguments: Sequence[str]) -> int:
    """Run one command; returns its exit code: 0 done, 1 failed, 2 used wrongly."""
    try:
        code = app(list(arguments), prog_name="fwnode", standalone_mode=False)
        sys.stdout.flush()
    except typer.TyperException as error:
        return _fail(error.format_message(), error.exit_code)
    except FwnodeError as error:
        return _fail(str(error), error.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of a pipe had enough. Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    return code if isinstance(code, int) else 0


def _fail(message: str, code: int) -> int:
    line = " ".join(message.split())
    if line:
        colour = typer.colors.RED if sys.stderr.isatty() and "NO_COLOR" not in os.environ else None
        typer.echo(f"{typer.style('fwnode:', fg=colour) if colour else 'fwnode:'} {line}", err=True)
    return code

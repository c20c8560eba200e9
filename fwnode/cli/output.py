"""What commands print: JSON for programs, text and tables for people."""

import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
import typer

Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


def print_json(value: Any) -> None:
    """One JSON document, indented."""
    typer.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def print_table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns for people; colour and box only on a terminal, one line per row elsewhere."""
    if not sys.stdout.isatty():
        for row in (heading, *rows):
            typer.echo("\t".join(" ".join(cell.split()) for cell in row))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(*heading, box=box.SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        table.add_row(*(_literal(cell) for cell in row))
    Console(no_color="NO_COLOR" in os.environ).print(table)


def _literal(text: str) -> str:
    """Names and labels are chosen by others: no markup, no control characters."""
    from rich.markup import escape

    return escape("".join(c if c.isprintable() or c == "\n" else "?" for c in text))


def duration(seconds: float) -> str:
    """ "3 s", "12 min", "5 h 20 min", "3 d 4 h"."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min"
    if whole < 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3600} h"


def bitrate(bps: int) -> str:
    """ "128 kb/s", "4.2 Mb/s"."""
    return f"{bps / 1_000_000:.1f} Mb/s" if bps >= 1_000_000 else f"{bps / 1000:.0f} kb/s"


def size(count: int) -> str:
    """ "12 kB", "3.4 MB", "1.2 GB"."""
    for unit, factor in (("GB", 1_000_000_000), ("MB", 1_000_000)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count / 1000:.0f} kB"

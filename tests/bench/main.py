"""Runs the rows, prints their tables, keeps their figures."""

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from fwbench import machine, report
from fwbench.bench import Bench, OwnRow, Row, run
from fwbench.network.nat_figures import chosen
from fwbench.rows import glass, http, life, mesh, nat, quic, replica, stream, transcode, workers
from fwbench.servers import ROOT
from fwbench.summary import RowResult
from rich.console import Console
from rich.table import Table

CACHE = ROOT / ".cache" / "bench"
WARM_S = 3.0
_LOG_COLUMNS = 200  # tables in a log are not folded
ROWS: tuple[Row | OwnRow, ...] = (
    *http.ROWS,
    *stream.ROWS,
    *life.ROWS,
    *glass.ROWS,
    *transcode.ROWS,
    *mesh.ROWS,
    *nat.ROWS,
    *quic.ROWS,
    *replica.ROWS,
    *workers.ROWS,
)


def main() -> int:
    options = _options()
    if options.list:
        for row in ROWS:
            print(f"{row.name:12} {row.title}")
        return 0
    if options.stored:
        stored = json.loads(options.stored.read_text())
        print(report.markdown(map(RowResult.from_json, stored["rows"]), stored["machine"]))
        return 0
    chosen = [row for row in ROWS if not options.rows or row.name in options.rows]
    about = machine.describe()
    results = _run(chosen, options)
    stored = {"machine": about, "rows": [result.as_json() for result in results]}
    for target in (CACHE / time.strftime("%Y%m%d-%H%M%S.json"), *([options.json] if options.json else [])):
        target.write_text(json.dumps(stored, indent=2) + "\n")
    if options.markdown:
        print(report.markdown(results, about))
    return 0 if all(check.met for result in results for check in result.checks()) else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description="Measure the node, and beside it what else does the job.",
    )
    parser.add_argument("rows", nargs="*", metavar="ROW", help="only these rows (see --list)")
    parser.add_argument("--list", action="store_true", help="name the rows and leave")
    parser.add_argument("--rounds", type=int, help="rounds of each side (5; quick: 2; nat: 10)")
    parser.add_argument(
        "--pairs",
        action="append",
        default=[],
        metavar="KIND,KIND",
        help="of nat only these routers, or those of one KIND; may be given again",
    )
    parser.add_argument("--seconds", type=float, help="seconds measured in each round (10; quick: 4)")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds: for development only")
    parser.add_argument("--profile", action="store_true", help="also sample the node with py-spy")
    parser.add_argument("--nice", type=int, default=0, help="priority of everything measured, -20 to 19")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    parser.add_argument("--from", type=Path, dest="stored", metavar="FILE", help="Markdown of such figures")
    parser.add_argument("--markdown", action="store_true", help="print the tables as Markdown at the end")
    options = parser.parse_args()
    unknown = set(options.rows) - {row.name for row in ROWS}
    if unknown:
        parser.error(f"no such row: {', '.join(sorted(unknown))}; see --list")
    try:
        chosen(options.pairs)
    except ValueError as error:
        parser.error(str(error))
    options.rounds_asked = options.rounds
    options.rounds = options.rounds or (2 if options.quick else 5)
    options.seconds = options.seconds or (4.0 if options.quick else 10.0)
    return options


def _run(rows: Sequence[Row | OwnRow], options: argparse.Namespace) -> list[RowResult]:
    console = Console(stderr=True)
    if not console.is_terminal:
        console = Console(stderr=True, width=_LOG_COLUMNS)
    server_core, load_core = machine.cores()
    os.sched_setaffinity(0, {load_core})
    CACHE.mkdir(parents=True, exist_ok=True)
    results = []
    with console.status("") as status, machine.priority(options.nice):

        def say(text: str) -> None:
            status.update(text)
            if not console.is_terminal:
                console.print(text, style="dim", highlight=False)

        bench = Bench(
            CACHE,
            server_core,
            load_core,
            options.rounds,
            options.seconds,
            WARM_S,
            say,
            options.profile,
            options.rounds_asked,
            tuple(options.pairs),
        )
        for row in rows:
            results.append(run(row, bench))
            _show(console, results[-1])
    return results


def _show(console: Console, result: RowResult) -> None:
    header, body = report.table(result)
    if body:
        shown = Table(title=f"{result.name}: {result.title}", title_justify="left", title_style="bold")
        for number, label in enumerate(header):
            shown.add_column(label, justify="right" if number else "left")
        for line in body:
            shown.add_row(*line)
        console.print(shown)
    else:
        console.print(f"{result.name}: {result.title}", style="bold")
    if result.skipped:
        console.print(f"not run: {result.skipped}", style="yellow", markup=False)
    for check in result.checks():
        console.print(report.verdict(check), style="green" if check.met else "red", markup=False)
    for note in result.notes:
        console.print(note, style="yellow", markup=False)


if __name__ == "__main__":
    sys.exit(main())

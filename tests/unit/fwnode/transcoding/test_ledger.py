"""Sums of what was made: counted once, written once, kept by day."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fwnode import store
from fwnode.cli.report import report as report_command
from fwnode.cli.report import rows
from fwnode.store import Database, read_usage
from fwnode.transcoding.ledger import LINES_MAX, OTHER, Ledger
from fwnode.transcoding.usage import BYTES, MEDIA, SENT, Used, report
from media.transcode.toll import Toll

MINUTE = 60_000_000


def session(us: int, side: int = 720) -> Any:
    toll = Toll()
    toll.made_us[("libx264", side)] = us
    return SimpleNamespace(toll=toll)


def test_growth_is_counted_once_and_to_the_end() -> None:
    ledger, one, line = Ledger(), session(5), (MEDIA, "libx264", "720p")
    ledger.read([one])
    ledger.read([one])
    assert ledger.take() == {line: 5}
    one.toll.made_us[("libx264", 720)] = 8
    ledger.read([session(100)])  # the first one was closed meanwhile
    ledger.read([])
    assert ledger.take() == {line: 103}
    assert ledger.totals == {line: 108}
    assert ledger.take() == {}


def test_what_could_not_be_written_is_written_later() -> None:
    ledger = Ledger()
    ledger.sent(10)
    taken = ledger.take()
    ledger.sent(15)
    ledger.give_back(taken)
    assert ledger.take() == {(SENT, "", ""): 15}


def test_lines_are_bounded() -> None:
    ledger = Ledger()
    ledger.read([session(1, side) for side in range(LINES_MAX + 50)])
    assert len(ledger.totals) <= LINES_MAX + 1
    assert ledger.totals[(MEDIA, OTHER, OTHER)] == 50


def test_days_add_up_and_the_oldest_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "USAGE_DAYS_MAX", 3)
    database = Database(tmp_path)
    line = (MEDIA, "libx264", "720p")
    database.add_usage("2026-01-01", {line: 5})
    database.add_usage("2026-01-01", {line: 6, (SENT, "", ""): 7})
    assert sum(one.amount for one in database.usage() if one.kind == MEDIA) == 11
    for number in range(3):
        database.add_usage(f"2027-{number:04}", {line: 1})
    days = {one.day for one in database.usage()}
    database.close()
    assert len(days) == 3
    assert "2026-01-01" not in days
    assert len({one.day for one in read_usage(tmp_path)}) == 3


def test_a_report_by_month(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    used = [
        Used("2026-01-01", MEDIA, "libx264", "720p", MINUTE),
        Used("2026-01-02", MEDIA, "libx264", "720p", MINUTE // 2),
        Used("2026-01-02", BYTES, "libx264", "720p", 9),
        Used("2026-02-01", SENT, "", "", 2_000_000),
    ]
    february, january = report(used, months=True)
    assert (february["period"], february["sent_bytes"], february["transcoded"]) == ("2026-02", 2_000_000, [])
    made = {"engine": "libx264", "rendition": "720p", "minutes": 1.5, "bytes": 9}
    assert (january["transcoded_minutes"], january["transcoded"]) == (1.5, [made])
    assert len(report(used, months=False)) == 3
    assert [row[:4] for row in rows(january)] == [("2026-01", "0 kB", "libx264", "720p")]
    assert rows(february)[0][2] == "-"


def test_a_report_of_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report_command(data_dir=str(tmp_path))
    assert "Nothing" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())
    report_command(data_dir=str(tmp_path), json=True)
    assert capsys.readouterr().out.strip().startswith("{")

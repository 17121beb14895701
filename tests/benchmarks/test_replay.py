"""The command that replays rules."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.curve_table import CurveTable
from benchmarks.replay import main


@pytest.fixture
def curves(table: CurveTable, tmp_path: Path) -> Path:
    table.write(tmp_path / "t.gz")
    return tmp_path / "t.gz"


def test_rules_are_compared_in_tables_and_plots(
    curves: Path, space: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["--curves", str(curves), "--space", str(space), "--out", str(tmp_path / "out"), "--seeds", "3"]
    command += ["--trials", "8", "--slots", "1", "2", "--rule", "late={scheduler: {kind: asha, grace_period: 2}}"]
    assert main([*command, "--only", "random, full", "space", "late"]) == 0
    report = capsys.readouterr().out
    assert report == (tmp_path / "out" / "replay.md").read_text() and (tmp_path / "out" / "regret_8.png").exists()
    assert "30 of 30 random configurations" in report and "R2" in report
    assert "| beats random, full |" in report  # the first, as "asha 1 3" is not among them
    rows = [line.split(" | ") for line in report.splitlines() if line.startswith(("| random, full |", "| late |"))]
    assert [row[0] for row in rows] == ["| random, full", "| late"] * 2 + ["| late"]
    assert rows[0][1] == "32"


@pytest.mark.parametrize(("rule", "words"), [("late", "has no '='"), ("late={scheduler: {kind: asah}}", "asha")])
def test_a_wrong_rule_is_refused(
    curves: Path, space: Path, rule: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--curves", str(curves), "--space", str(space), "--rule", rule]) == 2
    assert words in capsys.readouterr().err

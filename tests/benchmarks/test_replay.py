"""The command that replays rules."""

from __future__ import annotations

import dataclasses
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


def test_each_rule_has_the_rows_that_were_scored_at_all_scales(
    table: CurveTable, space: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["--curves", str(tmp_path / "t.gz"), "--space", str(space), "--seeds", "2", "--trials", "8"]
    command += ["--slots", "1", "--only", "half", "random, full", "--rule", "half={scales: [1.0, 0.5]}"]
    table.write(tmp_path / "t.gz")
    assert main(command) == 2
    assert "no row that was scored at all of the scales 0.5, 1" in capsys.readouterr().err
    for key in list(table.rows)[:12]:
        own = table.rows[key].metrics
        half = {f"{name}@0.5": [value / 2 for value in own[name]] for name in ("val_dice", "test_dice")}
        table.rows[key] = dataclasses.replace(table.rows[key], metrics={**own, **half})
    table.write(tmp_path / "t.gz")
    assert main(command) == 0
    n_drawn = sum(isinstance(key, int) for key in list(table.rows)[:12])
    report, left_out = capsys.readouterr().out, f"Left out: {len(table.rows) - 12} rows"
    assert f"{n_drawn} of {n_drawn} random configurations" in report and left_out in report
    assert main([*command[:-3], "space", "--scales", "0.5"]) == 0
    assert left_out in capsys.readouterr().out
    assert main([*command[:-3], "space"]) == 0
    assert "Left out" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--rule", "r={scheduler: {kind: racing}}"], "has scales [1.0, 0.5], but the scheduler races by pairs"),
        (["--rule", "r={objective: val_iou}"], "the objective is val_iou"),
        (["--raw"], "has scales [1.0, 0.5], but --raw asks"),
    ],
)
def test_what_a_table_has_as_trained_alone_is_refused_at_other_scales(
    curves: Path, space: Path, options: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--curves", str(curves), "--space", str(space), "--scales", "1.0", "0.5", *options]) == 2
    assert words in capsys.readouterr().err

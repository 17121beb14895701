"""The benchmark of soups takes searches on the demo alone, and compares each soup with its search's single training."""

from __future__ import annotations

import csv
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks import soup_gain
from benchmarks.soup_gain import describe_gains, main
from search.run_folder.contenders import Contender
from search.run_folder.finalists import write_finalists

DEMO = "demo data (synthetic tissue) and demo model (nano)"
CONTENDERS = [
    Contender("single", ("x",), "confirmation/x", 0.5, {0.5: 0.6}),
    Contender("seeds", ("x", "y"), "soups/seeds", 1.0, {1.0: 0.7}),
]


@pytest.mark.parametrize(("demo", "code"), [(DEMO, 0), ("", 2), ("demo model (nano)", 2)])
def test_contenders_of_demo_searches_are_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, demo: str, code: int
) -> None:
    summary = SimpleNamespace(chosen=SimpleNamespace(soup="seeds"), test=SimpleNamespace(zeroshot_dice=0.5))
    monkeypatch.setattr(soup_gain.SearchRecord, "read", lambda run: SimpleNamespace(demo=demo))
    monkeypatch.setattr(soup_gain.Summary, "read", lambda run: summary)
    monkeypatch.setattr(soup_gain, "score_on_test", lambda run, record, each: each.val_dice - 0.1)
    write_finalists(tmp_path, [], "ab12cd34", CONTENDERS)
    assert main(["--runs", str(tmp_path), "--out", str(tmp_path / "gain.csv")]) == code
    if code == 0:
        rows = list(csv.DictReader((tmp_path / "gain.csv").open()))
        found = [(row["contender"], row["members"], row["chosen"]) for row in rows]
        assert found == [("single", "1", "False"), ("seeds", "2", "True")]


def test_gains_are_those_over_the_same_search() -> None:
    rows = [
        {"run": run, "contender": kind, "test_dice": dice, "chosen": kind == "seeds"}
        for run, single, soup in (("a", 0.6, 0.62), ("b", 0.5, 0.49))
        for kind, dice in (("single", single), ("seeds", soup))
    ]
    first, second = describe_gains(rows)
    assert first.startswith("seeds: test Dice +0.0050 against") and "over 2 searches, better in 1" in first
    assert second.startswith("chosen: test Dice +0.0050")

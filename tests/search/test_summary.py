"""The outcome of a search: one file that scripts read, and a few honest lines."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from search.summary import SUMMARY_FILE, Summary


def make_summary(**changes: Any) -> Summary:
    summary = Summary(
        search_id="first",
        demo="demo data (synthetic tissue) and demo model (nano, 2.5 M parameters)",
        trials={"complete": 3, "stopped": 12, "failed": 1},
        best_trial="abc",
        best_params={"adapter.rank": 8, "optim.lr": 1e-3, "adapter.train_heads": True},
        best_epoch=5,
        val_dice=0.71,
        zeroshot_val_dice=0.6,
        val_floor=0.5,
        val_ceiling=0.93,
        test_dice=0.68,
        zeroshot_test_dice=0.61,
        verdict="beaten",
        protocol="recorded",
        protocol_id="ab12cd34",
        data_fingerprint="0123456789ab",
        seed=0,
        parent_run_id="run",
        wall_seconds=130.0,
        bar_recorded_comparable=False,
    )
    return dataclasses.replace(summary, **changes)


def test_a_written_summary_is_read_back(tmp_path: Path) -> None:
    summary = make_summary(export="/some/where", export_val_dice=0.7101)
    summary.write(tmp_path)
    assert Summary.read(tmp_path) == summary
    assert [path.name for path in tmp_path.iterdir()] == [SUMMARY_FILE]


def test_the_keys_that_scripts_rely_on_are_there(tmp_path: Path) -> None:
    make_summary().write(tmp_path)
    content = json.loads((tmp_path / SUMMARY_FILE).read_text())
    promised = "search_id trials best_params val_dice zeroshot_val_dice bar_recorded export wall_seconds"
    assert set(promised.split()) <= set(content)
    assert content["bar_recorded"] == 0.517
    assert content["trials"] == {"complete": 3, "stopped": 12, "failed": 1}


def test_a_later_summary_replaces_the_earlier_one(tmp_path: Path) -> None:
    make_summary().write(tmp_path)
    make_summary(export="/some/where").write(tmp_path)
    read = Summary.read(tmp_path)
    assert read is not None and read.export == "/some/where"


def test_a_search_that_did_not_come_that_far_has_none(tmp_path: Path) -> None:
    assert Summary.read(tmp_path) is None


@pytest.mark.parametrize("word", ["beaten", "not beaten", "undecided"])
def test_the_last_lines_hold_every_figure_and_the_word(word: str) -> None:
    said = "\n".join(make_summary(verdict=word).to_lines("the interval lies above 0"))
    for part in (
        *("demo data (synthetic tissue)", "demo model (nano", "3 complete, 12 stopped, 1 failed", "2 min 10 s"),
        *("0.710 at epoch 5", "zero-shot 0.600 (+0.110)", "filled box 0.500", "ceiling 0.930"),
        *("winner 0.680, zero-shot 0.610 (+0.070)", "recorded [ab12cd34]", "0123456789ab", "seed 0"),
        f"zero-shot is {word.upper()} (the interval lies above 0)",
    ):
        assert part in said


def test_the_recorded_bar_was_measured_elsewhere_unless_it_was_not() -> None:
    elsewhere = make_summary().to_lines("")[-1]
    here = make_summary(bar_recorded_comparable=True, demo="").to_lines("")
    assert "0.517 was measured elsewhere" in elsewhere
    assert "elsewhere" not in "\n".join(here)
    assert "on the same test set: 0.517" in here[-1]
    assert "real data and model" in here[0]


def test_a_loss_is_told_as_one() -> None:
    said = "\n".join(make_summary(val_dice=0.55, test_dice=0.6).to_lines(""))
    assert "(-0.050)" in said
    assert "(-0.010)" in said


def test_metrics_are_finite_numbers_by_mlflows_names() -> None:
    metrics = make_summary().to_metrics()
    assert metrics["dice_minus_zeroshot"] == pytest.approx(0.11)
    assert (metrics["bar_recorded"], metrics["bar_zeroshot"]) == (0.517, 0.6)
    assert all(isinstance(value, float) for value in metrics.values())

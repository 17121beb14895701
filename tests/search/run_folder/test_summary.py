"""The outcome of a search: one file that scripts read, and a few honest lines."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from search.errors import ConfigError
from search.run_folder.layout import SUMMARY_FILE
from search.run_folder.summary import Summary


def test_a_written_summary_is_read_back(summary: Summary, tmp_path: Path) -> None:
    summary = dataclasses.replace(summary, export="/some/where", export_val_dice=0.7101)
    summary.write(tmp_path)
    assert Summary.read(tmp_path) == summary
    assert [path.name for path in tmp_path.iterdir()] == [SUMMARY_FILE]


def test_a_damaged_summary_is_told_by_its_name(tmp_path: Path, damaged: str) -> None:
    (tmp_path / SUMMARY_FILE).write_text(damaged)
    with pytest.raises(ConfigError, match=r"summary\.json: cannot be read"):
        Summary.read(tmp_path)


def test_the_keys_that_scripts_rely_on_are_there(summary: Summary, tmp_path: Path) -> None:
    summary.write(tmp_path)
    content = json.loads((tmp_path / SUMMARY_FILE).read_text())
    promised = "search_id trials best_params val_dice zeroshot_val_dice bar_recorded export wall_seconds"
    assert set(promised.split()) <= set(content)
    assert content["bar_recorded"] == 0.517
    assert content["trials"] == {"complete": 3, "stopped": 12, "failed": 1}


def test_a_later_summary_replaces_the_earlier_one(summary: Summary, tmp_path: Path) -> None:
    summary.write(tmp_path)
    dataclasses.replace(summary, export="/some/where").write(tmp_path)
    read = Summary.read(tmp_path)
    assert read is not None and read.export == "/some/where"


def test_a_search_that_did_not_come_that_far_has_none(tmp_path: Path) -> None:
    assert Summary.read(tmp_path) is None


@pytest.mark.parametrize("word", ["beaten", "not beaten", "undecided"])
def test_the_last_lines_hold_every_figure_and_the_word(summary: Summary, word: str) -> None:
    said = "\n".join(dataclasses.replace(summary, verdict=word).to_lines("the interval lies above 0"))
    for part in (
        *("demo data (synthetic tissue)", "demo model (nano", "3 complete, 12 stopped, 1 failed", "2 min 10 s"),
        *("winner 0.712, zero-shot 0.600 (+0.112)", "filled box 0.512", "ceiling 0.932"),
        *("trial abc", "3 configurations over 4 seeds", "0.701 +/- 0.012", "0.720 at best in the search"),
        *("seed 2, epoch 5, scale 0.75", "winner 0.681, zero-shot 0.613 (+0.068)"),
        *("recorded [ab12cd34]", "0123456789ab", "seed 0"),
        f"zero-shot is {word.upper()} (the interval lies above 0)",
    ):
        assert part in said


def test_the_recorded_bar_was_measured_elsewhere_unless_it_was_not(summary: Summary) -> None:
    elsewhere = summary.to_lines("")[-1]
    here = dataclasses.replace(summary, bar_recorded_comparable=True, demo="").to_lines("")
    assert "0.517 was measured elsewhere" in elsewhere
    assert "elsewhere" not in "\n".join(here)
    assert "on the same test set: 0.517" in here[-1]
    assert "real data and model" in here[0]


def test_a_loss_is_told_as_one(summary: Summary) -> None:
    said = "\n".join(dataclasses.replace(summary, val_dice=0.55, test_dice=0.6).to_lines(""))
    assert "(-0.050)" in said
    assert "(-0.013)" in said


def test_metrics_are_finite_numbers_by_mlflows_names(summary: Summary) -> None:
    metrics = summary.to_metrics()
    assert metrics["dice_minus_zeroshot"] == pytest.approx(0.11233)
    assert (metrics["bar_recorded"], metrics["bar_zeroshot"]) == (0.517, 0.60001)
    assert all(isinstance(value, float) for value in metrics.values())
    assert (metrics["best_val_dice"], metrics["chosen_val_dice"]) == (0.7201, 0.71234)


def test_a_search_without_confirmation_says_so(summary: Summary) -> None:
    said = "\n".join(dataclasses.replace(summary, n_finalists=0, best_scale=1.0).to_lines(""))
    assert "not confirmed with other seeds" in said
    assert "scale 1, as trained" in said


def test_caveats_are_the_last_lines(summary: Summary) -> None:
    caveats = ["leak allowed by --allow-leak: patient X stands in 2 parts", "the test set was opened 2 times"]
    lines = dataclasses.replace(summary, caveats=caveats).to_lines("")
    assert lines[-2:] == [f"  CAVEAT: {caveat}" for caveat in caveats]


def test_without_prompts_the_floor_is_a_constant_answer_and_there_is_no_zero_shot(summary: Summary) -> None:
    auto = dataclasses.replace(summary, protocol="auto", val_dice=0.1, val_floor=0.2)
    text = "\n".join(auto.to_lines("reason"))
    assert "one class everywhere 0.200" in text and "untrained class prompts" in text
    assert "a constant answer is better here" in text and "box" not in text


def test_another_objective_is_told_with_its_figures(summary: Summary) -> None:
    assert "optimized" not in "\n".join(summary.to_lines(""))
    iou = dataclasses.replace(summary, objective=["val_iou"], objective_value=0.51, zeroshot_objective_value=0.42)
    said = "\n".join(iou.to_lines(""))
    assert "optimized: val IoU (val_iou): winner 0.510, zero-shot 0.420; the verdict is one of Dice" in said
    pair = dataclasses.replace(summary, objective=["val_dice", "trained_parameters"])
    assert "optimized: val Dice (up) and trained parameters (down); the verdict" in "\n".join(pair.to_lines(""))

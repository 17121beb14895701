"""The outcome of a search: one file that scripts read, and the last lines on the screen."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from search.errors import ConfigError
from search.run_folder.layout import SUMMARY_FILE
from search.run_folder.summary import Summary

MakeSummary = Callable[..., Summary]

# What scripts may rely on: no key is renamed, moved or left out.
KEYS = """
    search_id demo trials best_trial best_params best_epoch best_seed best_scale n_finalists seeds seeds_mean seeds_std
    search_val_dice val_dice zeroshot_val_dice val_floor val_ceiling test_dice zeroshot_test_dice verdict protocol
    protocol_id data_fingerprint seed parent_run_id wall_seconds bar_recorded_comparable bar_recorded export
    export_val_dice caveats test_openings test_opening naming objective objective_value zeroshot_objective_value
    soup soup_members arithmetic_share prefix_reused test_floor starting_point
""".split()


def test_a_written_summary_is_read_back_and_replaces_an_earlier_one(make_summary: MakeSummary, tmp_path: Path) -> None:
    assert Summary.read(tmp_path) is None
    make_summary().write(tmp_path)
    changed = make_summary(export="/some/where", export_val_dice=0.7101, caveats=["a leak"], test_openings=2)
    changed.write(tmp_path)
    assert Summary.read(tmp_path) == changed != make_summary()
    assert [path.name for path in tmp_path.iterdir()] == [SUMMARY_FILE]


def test_the_file_has_the_keys_that_scripts_rely_on(summary: Summary, tmp_path: Path) -> None:
    summary.write(tmp_path)
    content = json.loads((tmp_path / SUMMARY_FILE).read_text())
    assert list(content) == list(summary.to_dict()) == KEYS
    assert content["bar_recorded"] == 0.517 and content["objective"] == ["val_dice"]
    assert content["trials"] == {"complete": 3, "stopped": 12, "failed": 1}


def test_a_summary_of_an_older_version_is_read(summary: Summary, tmp_path: Path) -> None:
    content = {key: value for key, value in summary.to_dict().items() if KEYS.index(key) < KEYS.index("bar_recorded")}
    (tmp_path / SUMMARY_FILE).write_text(json.dumps(content))
    assert Summary.read(tmp_path) == summary


def test_a_damaged_summary_is_reported_by_its_name(summary: Summary, tmp_path: Path, damaged: str) -> None:
    keys = ("best_trial", "test_dice", "protocol_id", "val_floor", "trials")  # a value of another type is damage
    for content in (damaged, *(json.dumps({**summary.to_dict(), key: None}) for key in keys)):
        (tmp_path / SUMMARY_FILE).write_text(content)
        with pytest.raises(ConfigError, match=r"summary\.json: cannot be read"):
            Summary.read(tmp_path)


@pytest.mark.parametrize("word", ["beaten", "not beaten", "undecided"])
def test_the_last_lines_hold_every_figure_and_the_word(make_summary: MakeSummary, word: str) -> None:
    text = "\n".join(make_summary(verdict=word).to_lines("the interval lies above 0"))
    for part in (
        *("demo data (synthetic tissue)", "demo model (nano", "3 complete, 12 stopped, 1 failed", "2 min 10 s"),
        *("winner 0.712, zero-shot 0.600 (+0.112)", "filled box 0.512", "ceiling 0.932"),
        *("trial abc", "3 configurations over 4 seeds", "0.701 +/- 0.012", "0.720 at best in the search"),
        *("seed 2, epoch 5, scale 0.75", "winner 0.681, zero-shot 0.613 (+0.068)"),
        *("recorded [ab12cd34]", "0123456789ab", "seed 0"),
        f"zero-shot is {word.upper()} (the interval lies above 0)",
    ):
        assert part in text


def test_the_share_of_arithmetic_is_said_where_it_is_known(make_summary: MakeSummary) -> None:
    assert "of the time of the slots" not in "\n".join(make_summary().to_lines(""))
    lines = make_summary(arithmetic_share=0.834).to_lines("")
    assert any(line.startswith("  training and validation took 83% of the time of the slots") for line in lines)
    assert "read rather than computed" not in "\n".join(lines)
    lines = make_summary(arithmetic_share=0.834, prefix_reused=0.61).to_lines("")
    assert any(line.endswith("; 61% of the image encoder's blocks were read rather than computed") for line in lines)


def test_the_recorded_bar_was_measured_elsewhere_unless_it_was_not(make_summary: MakeSummary) -> None:
    here = make_summary(bar_recorded_comparable=True, demo="").to_lines("")
    assert "0.517 was measured elsewhere" in make_summary().to_lines("")[-1]
    assert "elsewhere" not in "\n".join(here)
    assert "on the same test set: 0.517" in here[-1]
    assert "real data and model" in here[0]
    assert make_summary(protocol="components").describe_recorded_bar() == ""  # nothing was recorded under it


def test_metrics_are_finite_numbers_by_mlflows_names(summary: Summary) -> None:
    metrics = summary.to_metrics()
    assert metrics["dice_minus_zeroshot"] == pytest.approx(0.11233)
    assert (metrics["bar_recorded"], metrics["bar_zeroshot"]) == (0.517, 0.60001)
    assert all(isinstance(value, float) for value in metrics.values())
    assert (metrics["best_val_dice"], metrics["chosen_val_dice"]) == (0.7201, 0.71234)


def test_a_loss_has_a_minus_and_what_was_not_confirmed_says_so(make_summary: MakeSummary) -> None:
    text = "\n".join(make_summary(val_dice=0.55, test_dice=0.6, n_finalists=0, best_scale=1.0).to_lines(""))
    for part in ("(-0.050)", "(-0.013)", "not confirmed with other seeds", "scale 1, as trained"):
        assert part in text


def test_a_soup_is_named_with_its_members_and_read_back(make_summary: MakeSummary, tmp_path: Path) -> None:
    members = ["trial abc, seed 1, epoch 3", "trial abc, seed 2, epoch 4"]
    summary = make_summary(soup="seeds", soup_members=members, best_scale=1.0)
    summary.write(tmp_path)
    assert Summary.read(tmp_path) == summary
    assert f"; soup of 2 trainings ({'; '.join(members)}), scale 1" in summary.describe_choice()[0]


def test_a_winner_that_was_a_starting_point_is_named_as_one(make_summary: MakeSummary) -> None:
    assert "starting point" not in make_summary().describe_choice()[0]
    line = make_summary(starting_point="dice-led").describe_choice()[0]
    assert line.startswith("winner: trial abc (starting point dice-led), the best of 3 configurations")


def test_caveats_are_the_last_lines(make_summary: MakeSummary) -> None:
    caveats = ["leak allowed by --allow-leak: patient X is in 2 parts", "the test set was opened 2 times"]
    lines = make_summary(caveats=caveats, test_openings=2).to_lines("")
    assert lines[-2:] == [f"  CAVEAT: {caveat}" for caveat in caveats]
    assert "test, opened 2 times: " in "\n".join(lines)


def test_without_prompts_the_floor_is_a_constant_answer(make_summary: MakeSummary) -> None:
    text = "\n".join(make_summary(protocol="auto", val_dice=0.1, val_floor=0.2).to_lines("reason"))
    assert "one class everywhere 0.200" in text and "untrained class prompts" in text
    assert "a constant answer is better there" in text and "box" not in text


def test_a_winner_below_the_floor_on_test_is_said(make_summary: MakeSummary) -> None:
    text = "\n".join(make_summary(test_dice=0.2, test_floor=0.25).to_lines("reason"))
    assert "on test the winner is below the floor, filled box 0.250: it adds nothing to its prompt there" in text
    assert "below the floor" not in "\n".join(make_summary(test_dice=0.3, test_floor=0.25).to_lines("reason"))


def test_another_objective_is_named_with_its_figures(make_summary: MakeSummary) -> None:
    assert "optimized" not in "\n".join(make_summary().to_lines(""))
    iou = make_summary(objective=["val_iou"], objective_value=0.51, zeroshot_objective_value=0.42)
    assert iou.describe_choice()[0] == (
        "optimized: val IoU (val_iou): winner 0.510, zero-shot 0.420; the verdict is one of Dice"
    )
    pair = make_summary(objective=["val_dice", "trained_parameters"])
    assert "optimized: val Dice (up) and trained parameters (down); the verdict" in pair.describe_choice()[0]

"""A trial's epochs are read back, whatever happened to the process that wrote them."""

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from search.run_folder.trial_folder import read_epochs, read_failure, read_listed, read_pairs, read_reports
from search.tuning.epoch_log import EpochLog, pick_plain


def make_trial() -> Any:
    """What the log reads of a Ray trial; it has no retries left."""
    return SimpleNamespace(
        trial_id="a",
        config={"adapter.rank": 8},
        get_error=lambda: "Traceback\nValueError: no such adapter\n",
        should_recover=lambda: False,
    )


def report(log: EpochLog, trial: Any, epoch: int, dice: float) -> None:
    log.on_trial_result(0, [trial], trial, {"training_iteration": epoch, "val_dice": dice})


def test_an_epoch_is_on_disk_as_soon_as_it_is_reported_and_the_last_report_counts(tmp_path: Path) -> None:
    log, trial = EpochLog(tmp_path), make_trial()
    log.on_trial_start(0, [trial], trial)
    for epoch, dice in ((1, 0.4), (1, 0.5), (2, math.nan)):
        report(log, trial, epoch, dice)
    epochs = read_epochs(tmp_path / "trial-a")
    assert epochs[1]["val_dice"] == 0.5 and math.isnan(epochs[2]["val_dice"])
    assert json.loads((tmp_path / "trial-a" / "params.json").read_text()) == {"adapter.rank": 8}


@pytest.mark.parametrize("torn", ['{"training_iter', '{"training_iteration": 2, "val_dice": 0.9}', "\x00\x00"])
def test_a_torn_last_line_costs_its_own_epoch_alone(tmp_path: Path, torn: str) -> None:
    log, trial = EpochLog(tmp_path), make_trial()
    log.on_trial_start(0, [trial], trial)
    report(log, trial, 1, 0.5)
    with (tmp_path / "trial-a" / "result.json").open("a") as file:
        file.write(torn)
    log = EpochLog(tmp_path)
    log.on_trial_start(0, [trial], trial)
    report(log, trial, 2, 0.6)
    assert {epoch: row["val_dice"] for epoch, row in read_epochs(tmp_path / "trial-a").items()} == {1: 0.5, 2: 0.6}


@pytest.mark.parametrize("keeps_pairs", [False, True])
def test_pairs_have_a_file_of_their_own_where_the_search_races(tmp_path: Path, keeps_pairs: bool) -> None:
    log, trial = EpochLog(tmp_path, keeps_pairs), make_trial()
    log.on_trial_start(0, [trial], trial)
    trial.stopped_by = "racing: worse"
    log.on_trial_result(0, [trial], trial, {"training_iteration": 1, "val_dice": 0.5, "pairs": [0.1, 1 / 3]})
    folder = tmp_path / "trial-a"
    assert read_pairs(folder) == ({1: [0.1, 1 / 3]} if keeps_pairs else {})
    assert read_reports(folder) == {1: {"training_iteration": 1, "val_dice": 0.5, "stopped_by": "racing: worse"}}


def test_a_failure_stays_until_the_trial_starts_again(tmp_path: Path) -> None:
    log, trial = EpochLog(tmp_path), make_trial()
    log.on_trial_error(0, [trial], trial)  # also where its worker never came up
    (listed,) = read_listed(tmp_path)
    assert (listed.config, listed.failure) == ({"adapter.rank": 8}, "ValueError: no such adapter")
    assert read_failure(tmp_path / "trial-a") == listed.failure
    log.on_trial_start(0, [trial], trial)
    assert read_failure(tmp_path / "trial-a") == read_failure(tmp_path / "no-such-trial") == ""
    trial.should_recover = lambda: True  # it is made anew
    log.on_trial_error(0, [trial], trial)
    assert read_failure(tmp_path / "trial-a") == ""


def test_numbers_truth_values_and_texts_are_kept() -> None:
    given = {"a": True, "b": "recorded", "c": np.float32(0.5), "d": np.int64(3), "e": math.inf}
    kept = pick_plain({**given, "f": None, "g": {"adapter.rank": 8}})
    assert kept == {"a": True, "b": "recorded", "c": 0.5, "d": 3, "e": math.inf}

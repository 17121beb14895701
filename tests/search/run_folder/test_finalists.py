"""Finalists are compared by their mean over seeds, and the scale by the same mean."""

import dataclasses
import json
import math
from pathlib import Path

import pytest

from search.errors import ConfigError, SearchError
from search.run_folder.contenders import Contender, choose_scale
from search.run_folder.finalists import Confirmation, Finalist, SeedRun, choose_finalist, write_finalists
from search.run_folder.layout import CONFIRMATION_FILE
from search.study.ranking import RankedTrial


def make_finalist(trial_id: str, *dice: float) -> Finalist:
    runs = tuple(SeedRun(seed, f"/runs/{trial_id}-{seed}", 3, each) for seed, each in enumerate(dice, start=1))
    return Finalist(trial_id, max(dice), {"adapter.rank": 4}, runs)


def test_the_best_mean_wins_not_the_best_run() -> None:
    lucky, steady = make_finalist("lucky", 0.9, 0.1, 0.5), make_finalist("steady", 0.6, 0.61, 0.59)
    assert choose_finalist([lucky, steady]) is steady
    assert (lucky.mean_dice, lucky.std_dice) == pytest.approx((0.5, 0.4))
    trial = RankedTrial("abc", Path("/c"), 4, 0.7, {"adapter.rank": 8})
    single = trial.to_finalist(trial.to_run(seed=5))
    assert (single.mean_dice, single.std_dice, single.runs[0].seed) == (0.7, 0.0, 5)  # one seed has no spread
    runs = tuple(SeedRun(seed, "/c", 1, dice, by_scale={0.0: 0.5, 1.0: dice}) for seed, dice in ((1, 0.4), (2, 0.8)))
    assert Finalist("a", 0.8, {}, runs).average_scales() == {0.0: 0.5, 1.0: pytest.approx(0.6)}


def test_a_configuration_that_fails_with_a_seed_is_out() -> None:
    failed = SeedRun(2, "", 0, math.nan, "DivergedError: the loss became nan")
    unstable = Finalist("unstable", 0.9, {}, (SeedRun(1, "/a", 3, 0.9), failed))
    sound = make_finalist("sound", 0.4, 0.4)
    assert choose_finalist([unstable, sound]) is sound
    with pytest.raises(SearchError, match="every seed: DivergedError: the loss became nan"):
        choose_finalist([unstable])
    better = dataclasses.replace(make_finalist("better", 0.8), out="out after 1 of 2 seeds")
    assert choose_finalist([better, sound]) is sound


def test_damaged_finalists_are_reported_by_their_file_s_name(tmp_path: Path, damaged: str) -> None:
    (tmp_path / CONFIRMATION_FILE).write_text(damaged)
    with pytest.raises(ConfigError, match=r"confirmation\.json: cannot be read"):
        Confirmation.read(tmp_path)


def test_another_objective_decides_by_its_own_mean() -> None:
    runs = [SeedRun(1, "/a", 3, 0.9, "", {0.0: 0.5, 1.0: 0.9}, 0.1, {0.0: 0.2, 1.0: 0.1})]
    lopsided = Finalist("lopsided", 0.9, {}, tuple(runs))
    even = Finalist("even", 0.6, {}, (SeedRun(1, "/b", 3, 0.6, value=0.4),))
    assert choose_finalist([lopsided, even]) is even
    assert choose_scale(lopsided.average_scores()) == 0.0
    assert lopsided.average_scales() == {0.0: 0.5, 1.0: 0.9}
    trial = RankedTrial("abc", Path("/c"), 4, 0.7, {}, value=0.3)
    from_search = trial.to_finalist(trial.to_run(seed=5))
    assert (from_search.mean_score, from_search.mean_dice) == (0.3, 0.7)


def test_what_is_written_is_read_again_with_means_and_failures(tmp_path: Path) -> None:
    assert Confirmation.read(tmp_path) == Confirmation(())
    runs = (SeedRun(1, "/a", 3, 0.9, "", {0.0: 0.5, 1.25: 0.9}, 0.1, {0.0: 0.2, 1.25: 0.1}),)
    finalists = (Finalist("a", 0.9, {"adapter.rank": 4}, runs), make_finalist("b", 0.4, 0.6))
    soup = Contender("seeds", ("trial a, seed 1, epoch 3",), "soups/seeds", 0.5, {0.5: 0.9}, {0.5: 0.4})
    write_finalists(tmp_path, finalists, "ab12cd34", [soup])
    assert Confirmation.read(tmp_path) == Confirmation(finalists, (soup,))
    failed = Finalist("failed", 0.9, {}, (SeedRun(1, "", 0, math.nan, "was not started"),))
    write_finalists(tmp_path, [finalists[1], failed], "ab12cd34")
    text = (tmp_path / CONFIRMATION_FILE).read_text()
    content = json.loads(text)
    sound, other = content["finalists"]
    assert (content["protocol_id"], sound["mean_val_dice"]) == ("ab12cd34", pytest.approx(0.5))
    assert [run["seed"] for run in sound["runs"]] == [1, 2]
    assert (other["mean_val_dice"], other["runs"][0]["failure"]) == (None, "was not started")
    assert "NaN" not in text
    for written in (text, text.replace('"val_dice": null', '"val_dice": NaN')):  # as older versions wrote it
        (tmp_path / CONFIRMATION_FILE).write_text(written)
        assert math.isnan(Confirmation.read(tmp_path).finalists[1].runs[0].val_dice)

"""Opponents by hand, and rules of a space file with changes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from benchmarks.curve_table import CurveTable
from benchmarks.known_answers import Answers
from benchmarks.rules import Replay, change_space, list_opponents
from search.errors import ConfigError
from search.space.config import SearchConfig

DRAWN = ("random, full", "3 brackets", "hyperband", "median rule")  # without the starting point


@pytest.mark.parametrize("n_slots", [1, 3])
def test_one_epoch_for_all_and_the_best_to_their_end(
    table: CurveTable, space: Path, config: SearchConfig, tmp_path: Path, n_slots: int
) -> None:
    replay = Replay(Answers(table, config), 8, n_slots, seed=1)
    events = list_opponents(space, config, tmp_path, True)["one epoch, best 3"](replay).run()
    assert len(events) == 8 + 3 * 3 and {event.epoch for event in events[:8]} == {1}
    spent = Counter(event.trial.trial_id for event in events)
    first = {event.trial.trial_id: event.trial.results[0]["val_dice"] for event in events}
    assert sorted(first, key=lambda trial_id: -first[trial_id])[:3] == sorted(
        (trial_id for trial_id, n_epochs in spent.items() if n_epochs == 4), key=lambda trial_id: -first[trial_id]
    )


@pytest.mark.parametrize("n_slots", [2, 6])
@pytest.mark.parametrize(
    ("name", "n_trials"),
    [("starting points", 1)] + [(name, 6) for name in ("OptunaSearch + ASHA", "asha 1 3", "one epoch, best 3", *DRAWN)],
)
def test_every_opponent_runs_to_its_end_and_repeats(
    table: CurveTable, space: Path, config: SearchConfig, tmp_path: Path, name: str, n_trials: int, n_slots: int
) -> None:
    rule = list_opponents(space, config, tmp_path, True)[name]
    replay = Replay(Answers(table, config), 6, n_slots, seed=1)
    once = rule(replay)
    events = once.run()
    assert [event[::2] for event in events] == [event[::2] for event in rule(replay).run()]
    assert len(once.trials) == n_trials
    assert (once.trials[0].config == config.start_from[0].values) == (name not in DRAWN)
    if name in ("starting points", "random, full"):
        assert len(events) == 4 * n_trials


@pytest.mark.parametrize(
    ("changes", "match"),
    [([1], "must be a mapping"), ({"scheduler": {"kind": "hope"}}, "hope"), ({"schedular": {}}, "schedular")],
)
def test_wrong_changes_are_refused(space: Path, changes: Any, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        change_space(space, "wrong", changes, 4)


def test_changes_are_laid_over_what_a_space_extends_and_the_table_says_the_epochs(space: Path) -> None:
    (space.parent / "wide.yaml").write_text("extends: tiny.yaml\nmax_epochs: 9\n")
    changed = change_space(space.parent / "wide.yaml", "late", {"scheduler": {"grace_period": 3}}, 4)
    assert (changed.max_epochs, changed.scheduler.grace_period, changed.scheduler.reduction_factor) == (4, 3, 2)

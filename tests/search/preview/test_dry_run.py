"""What a preview says of a search, with real steps of nano; and the epochs that halving is expected to train."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from search.cluster.resources import TrialResources
from search.command_line.options import SearchOptions
from search.plan.planner import make_plan
from search.plan.search_plan import SearchPlan
from search.preview.dry_run import count_epochs, estimate_search, show_search
from search.space.kinds import SchedulerConfig
from trainables.data.splits import Fold
from trainables.trial_cost import Memory, TrialCost


def test_a_preview_measures_a_trial_and_starts_nothing(
    small_root: Path, tmp_path: Path, store: Path, ray_stays_off: None
) -> None:
    said: list[str] = []
    plan = make_plan(SearchOptions(space="lora", data=str(small_root), storage=str(tmp_path / "runs")))
    figures = show_search(plan, said.append)
    screen = "\n".join(said)
    for words in (
        "The resolved space:",
        "  optim.lr: {low: ",
        "dice-led",
        "one step     ",
        "The search was not started.",
    ):
        assert words in screen
    cost, whole = figures["trial"], figures["search"]
    assert cost["seconds_per_step"] > 0 and cost["checkpoint_mb"] > 0.1 and cost["weights_mb"] > 5
    assert (cost["steps_per_epoch"], cost["scored_per_epoch"]) == (2, 2)  # of three and two regions, batches of two
    assert whole["max_epochs"] == 24 * 8 + 3 * 3 * 8 > whole["epochs"]
    assert len(figures["trials"]) == 10 and json.dumps(figures)
    assert not plan.folder.exists()


def test_a_search_that_trains_nothing_is_shown_without_cost(plan: SearchPlan) -> None:
    said: list[str] = []
    config = dataclasses.replace(plan.config, train=False, max_epochs=0)
    assert "trial" not in show_search(dataclasses.replace(plan, config=config), said.append)
    assert "Nothing is trained" in said[-1]


@pytest.mark.parametrize(
    ("num_trials", "slots", "n_folds", "max_epochs", "turns", "n_checkpoints"),
    [
        (1, 2, 0, (1 + 3) * 4, 1 + 2, (1 + 3) * 2),  # one configuration can be confirmed, and one trial fills one slot
        (16, 4, 0, (16 + 9) * 4, 4 + 3, (16 + 9) * 2),
        (16, 4, 3, (16 + 9 + 1) * 4, (4 + 3) * 3 + 1, (16 + 9) * 2 * 3 + 1),  # and a refit of one model
    ],
)
def test_a_search_costs_its_trials_confirmations_and_refit(
    plan: SearchPlan, num_trials: int, slots: int, n_folds: int, max_epochs: int, turns: int, n_checkpoints: int
) -> None:
    config = dataclasses.replace(plan.config, num_trials=num_trials, max_epochs=4)
    options = dataclasses.replace(plan.options, confirm=3, confirm_seeds=3)
    data = dataclasses.replace(plan.data, folds=(Fold((), ()),) * n_folds)
    cost = TrialCost(900.0, 0.0, 1, 0, Memory(1.0, 2.0, True), checkpoint_mb=10.0, weights_mb=5.0, device="cpu")
    planned = dataclasses.replace(plan, config=config, options=options, data=data)
    whole = estimate_search(planned, cost, TrialResources(1, 0.0, slots))
    assert whole.max_epochs == max_epochs
    assert whole.max_hours == pytest.approx(turns)  # of four epochs of 900 s each
    assert whole.disk_mb == n_checkpoints * 10 + 5


@pytest.mark.parametrize(
    ("scheduler", "max_epochs", "expected"),
    [
        (SchedulerConfig("asha", 1, 3), 9, 1 + 2 / 3 + 6 / 9),
        (SchedulerConfig("promotion", 2, 2), 8, 2 + 2 / 2 + 4 / 4),
        (SchedulerConfig("asha", 1, 3), 1, 1),
        (SchedulerConfig("asha", 0.5, 2), 8, 4 + 4 / 2),
        (SchedulerConfig("none"), 8, 8),
        (SchedulerConfig("racing", 1), 8, 8),
    ],
)
def test_expected_epochs_of_a_trial(scheduler: SchedulerConfig, max_epochs: int, expected: float) -> None:
    assert count_epochs(scheduler, max_epochs) == pytest.approx(expected)

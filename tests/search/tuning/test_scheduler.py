"""Tests of search.tuning.scheduler: decisions on real trials of Ray Tune, without a cluster."""

from __future__ import annotations

import math
import warnings
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler

from search.errors import SearchError
from search.tuning.scheduler import make_scheduler, replay_curves

GO, STOP = TrialScheduler.CONTINUE, TrialScheduler.STOP


def run(scheduler: TrialScheduler, name: str, curve: list[float], metric: str = "val_dice") -> int:
    """Feeds one trial's curve; returns the epoch at which it was stopped, 0 if it never was."""
    trial, controller = Trial("nothing", stub=True, trial_id=name), cast(TuneController, None)  # never asked
    scheduler.on_trial_add(controller, trial)
    for epoch, value in enumerate(curve, start=1):
        result: dict[str, Any] = {"training_iteration": epoch, metric: value}
        if scheduler.on_trial_result(controller, trial, result) == STOP:
            scheduler.on_trial_complete(controller, trial, result)
            return epoch
    return 0


def test_asha_stops_the_worse_at_rungs_and_all_at_the_end() -> None:
    scheduler = make_scheduler("asha", max_epochs=6, grace_period=2, reduction_factor=2)
    assert run(scheduler, "first", [0.5] * 6) == 6
    assert run(scheduler, "worse", [0.9, 0.4, 0.9, 0.9, 0.9, 0.9]) == 2  # epoch 1 is within grace
    assert run(scheduler, "better", [0.6] * 6) == 6
    assert run(scheduler, "late drop", [0.7, 0.7, 0.7, 0.1, 0.7, 0.7]) == 4


def test_asha_minimizes() -> None:
    scheduler = make_scheduler("asha", 4, 1, 2, metric="loss", mode="min")
    assert run(scheduler, "first", [0.5] * 4, "loss") == 4
    assert run(scheduler, "worse", [0.6] * 4, "loss") == 1
    assert run(scheduler, "better", [0.4] * 4, "loss") == 4


def test_asha_ignores_nan_and_is_not_moved_by_it() -> None:
    scheduler = make_scheduler("asha", max_epochs=4, grace_period=1, reduction_factor=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # numpy's, on a rung that has nothing but NaN
        assert run(scheduler, "nan", [math.nan] * 4) == 4
        assert run(scheduler, "good", [0.5] * 4) == 4
    assert run(scheduler, "bad", [0.4] * 4) == 1


def test_none_never_stops() -> None:
    scheduler = make_scheduler("none", max_epochs=2)
    assert run(scheduler, "worst", [0.5, 0.0, 0.0]) == 0


@pytest.mark.parametrize("grace_period", [1, 3])
def test_bounds_are_allowed(grace_period: int) -> None:
    assert run(make_scheduler("asha", 3, grace_period, 2), "one", [0.5] * 3) == 3


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ({"kind": "hyperband", "max_epochs": 3}, "one of asha, none"),
        ({"kind": "asha", "max_epochs": 3, "grace_period": 4}, "grace_period=4, max_epochs=3"),
        ({"kind": "asha", "max_epochs": 3, "grace_period": 0}, "1 <= grace_period"),
        ({"kind": "asha", "max_epochs": 3, "reduction_factor": 1}, "at least 2, but got 1"),
    ],
)
def test_refuses(arguments: dict[str, Any], rule: str) -> None:
    with pytest.raises(SearchError, match=rule):
        make_scheduler(**arguments)


@pytest.mark.parametrize("seed", range(3))
def test_a_replayed_scheduler_judges_as_the_first_one(seed: int) -> None:
    """Whichever half of the results came before the stop, the other half is judged alike."""
    draw = np.random.default_rng(seed)
    curves = {f"t{number}": {epoch: float(draw.random()) for epoch in range(1, 9)} for number in range(8)}
    events = [(trial_id, epoch) for epoch in range(1, 9) for trial_id in curves]

    def judge(scheduler: TrialScheduler, told: list[tuple[str, int]]) -> list[str]:
        decisions = []
        tune: Any = None
        for trial_id, epoch in told:
            trial: Any = SimpleNamespace(trial_id=trial_id)
            if epoch == told[0][1]:
                scheduler.on_trial_add(tune, trial)
            result = {"training_iteration": epoch, "val_dice": curves[trial_id][epoch]}
            decisions.append(scheduler.on_trial_result(tune, trial, result))
        return decisions

    whole = judge(make_scheduler("asha", 9, reduction_factor=2), events)
    later = make_scheduler("asha", 9, reduction_factor=2)
    before = {trial_id: {epoch: curve[epoch] for epoch in (1, 2, 3)} for trial_id, curve in curves.items()}
    replay_curves(later, before)
    n_before = 3 * len(curves)
    assert judge(later, events[n_before:]) == whole[n_before:]
    assert "STOP" in whole[n_before:]

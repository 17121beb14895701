"""Tests of search.tuning.scheduler: decisions on real trials of Ray Tune, without a cluster."""

import math
import warnings
from typing import Any, cast

import numpy as np
import pytest
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler

from search.space.kinds import SchedulerConfig
from search.tuning.scheduler import make_scheduler, replay_results

STOP = TrialScheduler.STOP
CONTROLLER = cast(TuneController, None)  # never asked


def make_asha(max_epochs: int, grace_period: int = 1) -> TrialScheduler:
    return make_scheduler(SchedulerConfig("asha", grace_period, reduction_factor=2), max_epochs)


def report(scheduler: TrialScheduler, trial: Trial, epoch: int, value: float) -> str:
    return scheduler.on_trial_result(CONTROLLER, trial, {"training_iteration": epoch, "val_dice": value})


def run(scheduler: TrialScheduler, name: str, curve: list[float]) -> int:
    """Feeds one trial's curve; returns the epoch at which it was stopped, 0 if it never was."""
    trial = Trial("nothing", stub=True, trial_id=name)
    scheduler.on_trial_add(CONTROLLER, trial)
    for epoch, value in enumerate(curve, start=1):
        if report(scheduler, trial, epoch, value) == STOP:
            result: dict[str, Any] = {"training_iteration": epoch, "val_dice": value}
            scheduler.on_trial_complete(CONTROLLER, trial, result)
            return epoch
    return 0


def test_asha_stops_the_worse_at_rungs_and_all_at_the_end() -> None:
    scheduler = make_asha(6, grace_period=2)
    assert run(scheduler, "first", [0.5] * 6) == 6
    assert run(scheduler, "worse", [0.9, 0.4, 0.9, 0.9, 0.9, 0.9]) == 2  # epoch 1 is within grace
    assert run(scheduler, "better", [0.6] * 6) == 6
    assert run(scheduler, "late drop", [0.7, 0.7, 0.7, 0.1, 0.7, 0.7]) == 4


def test_asha_ignores_nan_and_is_not_moved_by_it() -> None:
    scheduler = make_asha(4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # numpy's, on a rung that has nothing but NaN
        assert run(scheduler, "nan", [math.nan] * 4) == 4
        assert run(scheduler, "good", [0.5] * 4) == 4
    assert run(scheduler, "bad", [0.4] * 4) == 1


def test_none_never_stops() -> None:
    scheduler = make_scheduler(SchedulerConfig("none"), max_epochs=2)
    assert run(scheduler, "worst", [0.5, 0.0, 0.0]) == 0


@pytest.mark.parametrize("grace_period", [1, 3])
def test_bounds_are_allowed(grace_period: int) -> None:
    assert run(make_asha(3, grace_period), "one", [0.5] * 3) == 3


@pytest.mark.parametrize("seed", range(3))
def test_a_replayed_scheduler_judges_as_the_first_one(seed: int) -> None:
    """Whichever half of the results came before the stop, the other half is judged alike."""
    draw = np.random.default_rng(seed)
    curves = {f"t{number}": {epoch: float(draw.random()) for epoch in range(1, 9)} for number in range(8)}

    def judge(scheduler: TrialScheduler, epochs: range) -> list[str]:
        trials = [Trial("nothing", stub=True, trial_id=trial_id) for trial_id in curves]
        for trial in trials:
            scheduler.on_trial_add(CONTROLLER, trial)
        return [report(scheduler, trial, epoch, curves[trial.trial_id][epoch]) for epoch in epochs for trial in trials]

    whole = judge(make_asha(9), range(1, 9))
    later = make_asha(9)
    replay_results(
        later,
        {trial_id: {epoch: {"val_dice": curve[epoch]} for epoch in (1, 2, 3)} for trial_id, curve in curves.items()},
    )
    n_before = 3 * len(curves)
    assert judge(later, range(4, 9)) == whole[n_before:]
    assert STOP in whole[n_before:]

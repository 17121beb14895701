"""Ray's successive halving with reasons, and with rungs that leave out trials that have not moved."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
from ray.tune.experiment import Trial
from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler

from search.tuning.asha import Asha, list_rungs

CONTROLLER = cast(Any, None)


@pytest.mark.parametrize(("grace", "expected"), [(1, [1, 3, 9]), (2, [2, 6, 18]), (20, []), (19, [19])])
def test_rungs_are_below_the_last_epoch(grace: int, expected: list[int]) -> None:
    assert list_rungs(grace, 3, 20) == expected


@pytest.mark.parametrize("seed", range(5))
def test_it_decides_as_ray_does_and_says_why(seed: int) -> None:
    values = np.random.default_rng(seed).integers(0, 8, (12, 9)) / 8
    ours, rays = (
        Asha("val_dice", 9, 1, 3, 0.0),
        AsyncHyperBandScheduler("training_iteration", "val_dice", "max", 9, 1, 3),
    )
    for number, curve in enumerate(values):
        trial, n_stopped = Trial("nothing", stub=True, trial_id=str(number)), 0
        for scheduler in (ours, rays):
            scheduler.on_trial_add(CONTROLLER, trial)
        for epoch, value in enumerate(curve, start=1):
            result = {"training_iteration": epoch, "val_dice": float(value)}
            decision = ours.on_trial_result(CONTROLLER, trial, result)
            assert decision == rays.on_trial_result(CONTROLLER, trial, result)
            if decision == TrialScheduler.STOP:
                for scheduler in (ours, rays):
                    scheduler.on_trial_complete(CONTROLLER, trial, result)
                reason = getattr(trial, "stopped_by", "")
                rank = 1 + sum(other[epoch - 1] > value for other in values[: number + 1]) if epoch == 1 else 0
                assert (epoch == 9) == (not reason)
                assert epoch != 1 or f" {rank}" in reason and f"of {number + 1} at epoch 1" in reason
                n_stopped += 1
                break
        assert n_stopped == 1


def test_only_trials_that_have_moved_are_compared() -> None:
    asha = Asha("val_dice", 9, 1, 3, moved=0.1)

    def run(name: str, values: list[float], losses: list[float]) -> int:
        trial = Trial("nothing", stub=True, trial_id=name)
        asha.on_trial_add(CONTROLLER, trial)
        for epoch, (value, loss) in enumerate(zip(values, losses, strict=True), start=1):
            result = {"training_iteration": epoch, "val_dice": value, "train_loss": loss}
            if asha.on_trial_result(CONTROLLER, trial, result) == TrialScheduler.STOP:
                asha.on_trial_complete(CONTROLLER, trial, result)
                return epoch
        return len(values)

    # At epoch 1 none has moved; "still" never does and is no rival to those that have.
    assert run("still", [0.9] * 9, [1.0] * 9) == 9
    assert run("first", [0.5] * 9, [1.0, 0.8, 0.7, *[0.6] * 6]) == 9
    assert run("worse", [0.4] * 9, [1.0, 0.8, 0.7, *[0.6] * 6]) == 3
    assert run("later", [0.3] * 9, [1.0, 0.95, 0.95, *[0.6] * 6]) == 9  # no rung but the last lies behind its move

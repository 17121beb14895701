"""A trial ends when the best one is better pair by pair."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler

from search.space.kinds import SchedulerConfig
from search.tuning.scheduler import make_scheduler, replay_results

CONTROLLER = cast(Any, None)
CONFIG = SchedulerConfig("racing", grace_period=2)
EASE = np.random.default_rng(0).random(30) * 0.5  # pairs differ far more than trials do


def make_results(gain: float, seed: int, n_pairs: int = 30) -> dict[int, dict[str, Any]]:
    pairs = (EASE + gain + np.random.default_rng(seed).normal(0, 0.02, 30))[:n_pairs]
    return {epoch: {"val_dice": float(pairs.mean()), "pairs": list(pairs)} for epoch in range(1, 6)}


def run(scheduler: TrialScheduler, name: str, results: dict[int, dict[str, Any]], begin: int = 1) -> tuple[int, str]:
    """Returns the epoch at which a trial was stopped, and why."""
    trial = Trial("nothing", stub=True, trial_id=name)
    scheduler.on_trial_add(CONTROLLER, trial)
    for epoch in range(begin, 6):
        result = {**results[epoch], "training_iteration": epoch}
        if scheduler.on_trial_result(CONTROLLER, trial, result) == TrialScheduler.STOP:
            scheduler.on_trial_complete(CONTROLLER, trial, result)
            return epoch, getattr(trial, "stopped_by", "")
    return 0, ""


def test_what_is_worse_on_most_pairs_ends_after_the_grace_period() -> None:
    racing = make_scheduler(CONFIG, 5)
    assert run(racing, "good", make_results(0.1, 1)) == (5, "")
    epoch, why = run(racing, "worse", make_results(0.07, 2))
    assert epoch == 2 and why.startswith("racing: worse than trial good on ") and "of 30 pairs at epoch 2, p " in why
    assert run(racing, "better", make_results(0.13, 3)) == (5, "")
    assert "trial better" in run(racing, "as good was", make_results(0.1, 4))[1]


@pytest.mark.parametrize("results", [make_results(0.1, 1), make_results(0.0, 2, n_pairs=9), {}])
def test_what_cannot_be_told_apart_goes_on(results: dict[int, dict[str, Any]]) -> None:
    """The same figures, fewer pairs than the least number, and none at all."""
    racing = make_scheduler(CONFIG, 5)
    n_pairs = len(results[1]["pairs"]) if results else 30
    assert run(racing, "first", make_results(0.1, 1, n_pairs))[0] == 5
    assert run(racing, "second", results or dict.fromkeys(range(1, 6), {"val_dice": 0.0})) == (5, "")


def test_a_replayed_one_judges_as_the_first_one() -> None:
    past = {"good": make_results(0.1, 1), "worse": {1: make_results(0.07, 2)[1]}}
    racing = make_scheduler(CONFIG, 5)
    replay_results(racing, past)
    assert run(racing, "worse", make_results(0.07, 2), begin=2)[0] == 2

"""Successive halving by promotion: decisions without a cluster, and exact stops with Tune itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.experiment import Trial

from search.space.kinds import SchedulerConfig
from search.tuning.promotion import PromotionScheduler
from search.tuning.scheduler import make_scheduler, replay_results

Curves = Mapping[str, Sequence[float]]


class Bench:
    """Runs trials of known curves one after the other, as Tune does on one place."""

    def __init__(self, curves: Curves, max_epochs: int = 9, **options: Any) -> None:
        self.curves, self.max_epochs = curves, max_epochs
        config = SchedulerConfig("promotion", reduction_factor=3, **options)
        made = make_scheduler(config, max_epochs, concurrent=1)
        assert isinstance(made, PromotionScheduler)
        self.scheduler: Any = made
        self.trials: list[Any] = []
        self.epochs: list[tuple[str, int]] = []
        self.search_alg = SimpleNamespace(is_finished=lambda: len(self.trials) == len(curves))

    def get_trials(self) -> list[Any]:
        return self.trials

    def stop_trial(self, trial: Any) -> None:
        self.scheduler.on_trial_remove(self, trial)
        trial.status = Trial.TERMINATED

    def add(self, trial_id: str, epoch: int = 0, status: str = Trial.PENDING) -> None:
        self.trials.append(SimpleNamespace(trial_id=trial_id, status=status, epoch=epoch))
        self.scheduler.on_trial_add(self, self.trials[-1])

    def run(self, stop_after: int | None = None) -> list[tuple[str, int]]:
        """Returns the trials and epochs in the order in which they were trained."""
        while stop_after is None or len(self.epochs) < stop_after:
            can_begin = not self.search_alg.is_finished() and not self.scheduler.has_waiting()
            if can_begin and not any(trial.status == Trial.PENDING for trial in self.trials):
                self.add(list(self.curves)[len(self.trials)])
            trial = self.scheduler.choose_trial_to_run(self)
            if trial is None:
                if can_begin or not self.search_alg.is_finished():
                    continue
                break
            trial.status = Trial.RUNNING
            while trial.status == Trial.RUNNING:
                trial.epoch += 1
                self.epochs.append((trial.trial_id, trial.epoch))
                result = {"training_iteration": trial.epoch, "val_dice": self.curves[trial.trial_id][trial.epoch - 1]}
                decision = self.scheduler.on_trial_result(self, trial, result)
                if decision == PromotionScheduler.PAUSE:
                    trial.status = Trial.PAUSED
                elif decision == PromotionScheduler.STOP:
                    self.scheduler.on_trial_complete(self, trial, result)
                    trial.status = Trial.TERMINATED
                if stop_after is not None and len(self.epochs) == stop_after:
                    break
        return self.epochs


RISING: Curves = {f"t{rank}": [rank / 10 + epoch / 100 for epoch in range(9)] for rank in (3, 1, 2, 6, 4, 5, 8, 7, 0)}


def count(epochs: Sequence[tuple[str, int]]) -> dict[str, int]:
    return {trial_id: epoch for trial_id, epoch in epochs}


def test_the_best_third_of_each_rung_goes_on_and_none_passes_unopposed() -> None:
    bench = Bench(RISING)
    epochs = bench.run()
    # After three trials the first of them goes on, after six the two best, and so on.
    assert [trial_id for trial_id, epoch in epochs if epoch == 2] == ["t3", "t6", "t5", "t8", "t7"]
    assert epochs[:5] == [("t3", 1), ("t1", 1), ("t2", 1), ("t3", 2), ("t3", 3)]
    assert count(epochs) == {"t3": 3, "t1": 1, "t2": 1, "t6": 9, "t4": 1, "t5": 3, "t8": 9, "t7": 3, "t0": 1}
    assert all(trial.status == Trial.TERMINATED for trial in bench.trials)
    reasons = {trial.trial_id: getattr(trial, "stopped_by", "") for trial in bench.trials}
    assert reasons["t6"] == reasons["t8"] == ""
    assert reasons["t0"] == "promotion: 9th of 9 at epoch 1, 5 went on"
    assert reasons["t7"] == "promotion: 2nd of 5 at epoch 3, 2 went on"


@pytest.mark.parametrize("n_trials", [1, 2, 4])
def test_at_the_end_the_best_of_a_small_rung_goes_on(n_trials: int) -> None:
    curves = {name: RISING[name] for name in list(RISING)[:n_trials]}
    n_epochs = count(Bench(curves).run())
    assert n_epochs.pop(max(curves)) == 9
    assert all(n <= 3 for n in n_epochs.values())


def test_a_quorum_has_a_rung_wait() -> None:
    epochs = Bench(RISING, quorum=9).run()
    assert epochs[:9] == [(name, 1) for name in RISING]
    assert count(epochs)["t8"] == 9 and sorted(count(epochs).values()) == [1] * 6 + [3, 3, 9]


def test_the_first_rung_may_be_a_share_of_the_epochs() -> None:
    assert set(count(Bench(RISING, grace_period=0.5).run()).values()) == {4, 9}


@pytest.mark.parametrize("n_before", range(1, 27))
def test_a_replayed_one_goes_on_as_if_nothing_had_happened(n_before: int) -> None:
    """Whenever the search is killed on one place, the same trials train the same epochs in the same order."""
    curves = {f"t{number}": [(number * 7 + epoch * 5) % 11 / 10 for epoch in range(9)] for number in range(9)}
    whole = Bench(curves).run()
    first = Bench(curves)
    first.run(n_before)
    second = Bench(curves)
    seen = {
        trial.trial_id: {e: {"val_dice": curves[trial.trial_id][e - 1]} for e in range(1, trial.epoch + 1)}
        for trial in first.trials
    }
    replay_results(second.scheduler, seen)
    for trial in sorted(
        (trial for trial in first.trials if trial.status != Trial.TERMINATED),
        key=lambda trial: not second.scheduler.is_paused(trial.trial_id, trial.epoch),
    ):
        paused = second.scheduler.is_paused(trial.trial_id, trial.epoch)
        second.add(trial.trial_id, trial.epoch, Trial.PAUSED if paused else Trial.PENDING)
    for trial in first.trials:
        if trial.status == Trial.TERMINATED:
            second.trials.append(SimpleNamespace(**vars(trial)))
    assert whole[:n_before] + second.run() == whole

"""Asynchronous successive halving as Ray has it, with rungs that may leave out trials that have not moved yet."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler

from search.tuning.reasons import note_reason, spell_rank

if TYPE_CHECKING:
    from ray.tune.execution.tune_controller import TuneController

LOSS = "train_loss"


def list_rungs(grace_epochs: int, reduction_factor: int, max_epochs: int) -> list[int]:
    """Returns the epochs at which trials are compared: rising, all below ``max_epochs``."""
    rungs, epoch = [], grace_epochs
    while epoch < max_epochs:
        rungs.append(epoch)
        epoch *= reduction_factor
    return rungs


class Movement:
    """Which trials have moved: their training loss has fallen by a share since their first epoch.

    A fine-tune of a strong start gets worse before it gets better, so that an early ranking favours what has hardly
    left the start. With a share of 0 all have moved.
    """

    def __init__(self, share: float) -> None:
        """Takes the share, at least 0 and below 1."""
        self._share = share
        self._first: dict[str, float] = {}

    def has_moved(self, trial_id: str, result: Mapping[str, Any]) -> bool:
        """Notes an epoch's training loss; returns whether it has fallen far enough."""
        loss = float(result.get(LOSS, math.nan))
        first = self._first.setdefault(trial_id, loss)
        return not self._share or loss <= (1 - self._share) * first


class Asha(AsyncHyperBandScheduler):
    """Ray's asynchronous successive halving with one bracket, which says why it stops a trial.

    With ``moved`` a trial that has not moved passes a rung without being compared, see :class:`Movement`.
    """

    def __init__(self, metric: str, max_epochs: int, grace_epochs: int, reduction_factor: int, moved: float) -> None:
        """Makes a scheduler that has seen nothing."""
        super().__init__("training_iteration", metric, "max", max_epochs, grace_epochs, reduction_factor)
        self._rungs: dict[int, dict[str, float]] = {
            rung: {} for rung in list_rungs(grace_epochs, reduction_factor, max_epochs)
        }
        self._name, self._moved = metric, moved
        self._movement = Movement(moved)

    def on_trial_result(self, tune_controller: "TuneController", trial: Trial, result: dict[str, Any]) -> str:
        """Stops a trial at a rung, with the reason, or after its last epoch."""
        epoch, last = int(result["training_iteration"]), self._max_t
        has_moved = self._movement.has_moved(trial.trial_id, result)
        if self._moved and epoch < last and (epoch not in self._rungs or not has_moved):
            return TrialScheduler.CONTINUE
        decision = str(super().on_trial_result(tune_controller, trial, result))
        if epoch in self._rungs and self._name in result:
            rung = self._rungs[epoch]
            own = rung.setdefault(trial.trial_id, float(result[self._name]))
            if decision == TrialScheduler.STOP:
                rank = 1 + sum(value > own for value in rung.values())
                going = f"one in {self._reduction_factor} goes on"
                note_reason(trial, f"asha: {spell_rank(rank)} of {len(rung)} at epoch {epoch}, {going}")
        return decision

    def on_trial_complete(self, tune_controller: "TuneController", trial: Trial, result: dict[str, Any]) -> None:
        """Ends a trial; with ``moved`` its last value is no rung's, where Ray takes it for those that it missed."""
        if not self._moved:
            super().on_trial_complete(tune_controller, trial, result)

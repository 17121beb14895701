"""Asynchronous successive halving by promotion: trials pause at a rung, and the best of them go on."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from search.tuning.asha import Movement
from search.tuning.reasons import note_reason, spell_rank

if TYPE_CHECKING:
    from ray.tune.execution.tune_controller import TuneController


class PromotionScheduler(FIFOScheduler):
    """Successive halving as Li et al. 2018 (arXiv 1810.05934) wrote it, where Ray's own stops trials instead.

    A trial pauses at each rung. It goes on once it is among the best ``1 / reduction_factor`` of those that have come
    to the rung, however late; until then new trials start in its place. A free place goes to the best such trial of
    the highest rung, and to a new trial where there is none. A rung that no more trials can reach sends on at least
    its best, and the others end. So none passes unopposed, whatever the number of places.

    All it knows follows from the results by trial and epoch, so that :meth:`take_up` restores it after a stop. A rule
    of the controller is part of it: no new trial may start while :meth:`has_waiting`.
    """

    _supports_buffered_results = False

    def __init__(
        self,
        metric: str,
        max_epochs: int,
        rungs: Sequence[int],
        reduction_factor: int,
        quorum: int,
        moved: float,
        concurrent: int | None,
    ) -> None:
        """Makes a scheduler that has seen nothing.

        Args:
            metric: Is to be large.
            max_epochs: After these a trial ends.
            rungs: Epochs, rising, below ``max_epochs``.
            reduction_factor: One in this many goes on at a rung.
            quorum: As many must have come to a rung before one goes on, unless no more can come.
            moved: A trial that has not moved passes a rung without being compared, see :class:`Movement`.
            concurrent: Trials that run at once; None where the controller asks for a trial only if there is a place.
        """
        super().__init__()  # type: ignore[no-untyped-call]
        self._metric: Any = metric  # Tune looks at it
        self._max_epochs, self._factor = max_epochs, reduction_factor
        self._quorum, self._concurrent = quorum, concurrent
        self._movement = Movement(moved)
        self._values: dict[int, dict[str, float]] = {epoch: {} for epoch in rungs}
        self._passed: dict[int, set[str]] = {epoch: set() for epoch in rungs}
        self._numbers: dict[str, int] = {}  # in the order in which they were made, which decides between equals
        self._alive: set[str] = set()

    def take_up(self, trial_id: str, results: Mapping[int, Mapping[str, Any]]) -> None:
        """Notes what a trial reported before a stop, by epoch. Trials come in the order of their making."""
        self._numbers.setdefault(trial_id, len(self._numbers))
        for epoch in sorted(results):
            self._note(trial_id, epoch, results[epoch])

    def is_paused(self, trial_id: str, epoch: int) -> bool:
        """Whether a trial that has come as far as this epoch waits there."""
        return trial_id in self._values.get(epoch, {}) and trial_id not in self._passed[epoch]

    def has_waiting(self) -> bool:
        """Whether a paused trial is to go on before a new one starts."""
        return self._choose(more_come=True)[0] is not None

    def on_trial_add(self, tune_controller: "TuneController", trial: Trial) -> None:
        """Learns of a trial, a new one or one that goes on."""
        self._numbers.setdefault(trial.trial_id, len(self._numbers))
        self._alive.add(trial.trial_id)

    def on_trial_result(self, tune_controller: "TuneController", trial: Trial, result: dict[str, Any]) -> str:
        """Has a trial pause at a rung unless it is the one to go on, and end after its last epoch."""
        epoch = int(result["training_iteration"])
        self._note(trial.trial_id, epoch, result)
        if epoch >= self._max_epochs:
            return TrialScheduler.STOP
        if not self.is_paused(trial.trial_id, epoch):
            return TrialScheduler.CONTINUE
        if self._choose(_more_come(tune_controller))[0] != trial.trial_id:
            return TrialScheduler.PAUSE
        self._passed[epoch].add(trial.trial_id)
        return TrialScheduler.CONTINUE

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """Returns a trial that is ready, or sends on the paused one whose turn it is; ends those whose rung is over."""
        trials: dict[str, Trial] = {trial.trial_id: trial for trial in tune_controller.get_trials()}
        ready = [trial for trial in trials.values() if trial.status == Trial.PENDING]
        if ready:
            return ready[0]
        chosen, over = self._choose(_more_come(tune_controller))
        for trial_id, epoch in over:
            if trials[trial_id].status == Trial.PAUSED:  # else its checkpoint is still being written
                ranked = self._rank(epoch)
                note_reason(
                    trials[trial_id],
                    f"promotion: {spell_rank(ranked.index(trial_id) + 1)} of {len(ranked)} at epoch {epoch}, "
                    f"{len(self._passed[epoch])} went on",
                )
                tune_controller.stop_trial(trials[trial_id])
        n_running = sum(trial.status == Trial.RUNNING for trial in trials.values())
        if chosen is None or (self._concurrent is not None and n_running >= self._concurrent):
            return None
        if trials[chosen].status != Trial.PAUSED:
            return None
        self._passed[max(epoch for epoch in self._values if self.is_paused(chosen, epoch))].add(chosen)
        return trials[chosen]

    def on_trial_complete(self, tune_controller: "TuneController", trial: Trial, result: dict[str, Any]) -> None:
        """Forgets that a trial can go on; its values stay in the rungs."""
        self._alive.discard(trial.trial_id)

    def on_trial_error(self, tune_controller: "TuneController", trial: Trial) -> None:
        """See :meth:`on_trial_complete`; Tune adds a trial again that it starts again."""
        self._alive.discard(trial.trial_id)

    def on_trial_remove(self, tune_controller: "TuneController", trial: Trial) -> None:
        """See :meth:`on_trial_complete`."""
        self._alive.discard(trial.trial_id)

    def _note(self, trial_id: str, epoch: int, result: Mapping[str, Any]) -> None:
        has_moved, value = self._movement.has_moved(trial_id, result), float(result.get(self._metric, math.nan))
        for rung, passed in self._passed.items():
            if rung < epoch or (rung == epoch and not has_moved):
                passed.add(trial_id)
        if epoch in self._values and has_moved:
            self._values[epoch].setdefault(trial_id, value if math.isfinite(value) else -math.inf)

    def _rank(self, epoch: int) -> list[str]:
        values = self._values[epoch]
        return sorted(values, key=lambda trial_id: (-values[trial_id], self._numbers[trial_id]))

    def _choose(self, more_come: bool) -> tuple[str | None, list[tuple[str, int]]]:
        """Returns the trial that goes on next, if any does, and those that never will, each with its rung."""
        chosen: str | None = None
        over: list[tuple[str, int]] = []
        paused: set[str] = set()
        for epoch, values in self._values.items():
            # Those that pause below come only if their own rung sends them on.
            more_come = more_come or bool(self._alive - values.keys() - self._passed[epoch] - paused)
            n_best = len(values) // self._factor if len(values) >= self._quorum else 0
            best = self._rank(epoch)[: n_best if more_come else max(1, len(values) // self._factor)]
            waiting = {trial_id for trial_id in self._alive if self.is_paused(trial_id, epoch)}
            going = [trial_id for trial_id in best if trial_id in waiting]
            if going:
                chosen, more_come = going[0], True
            elif not more_come:
                over += [(trial_id, epoch) for trial_id in sorted(waiting, key=self._numbers.__getitem__)]
            paused |= waiting
        return chosen, over


def _more_come(tune_controller: Any) -> bool:
    return not tune_controller.search_alg.is_finished()

"""Racing: a trial ends when it is worse than the best one pair by pair."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from scipy.stats import wilcoxon

from search.tuning.reasons import note_reason
from trainables.context import PAIRS

if TYPE_CHECKING:
    from ray.tune.execution.tune_controller import TuneController


class RacingScheduler(FIFOScheduler):
    """Stops a trial whose Dice is below the best trial's over (region, class) pairs, by Wilcoxon's signed-rank test.

    After each epoch from the grace period on, the trial is compared with the one that had the highest metric after the
    same epoch, ended or not. The test is one-sided, over the pairs in which the two differ. Racing is Maron & Moore's
    1994; a signed-rank test as a rule of early stopping is Optuna's ``WilcoxonPruner``, which compares over problem
    instances and not over epochs. No correction is made for the epochs: the p-value is a threshold, not an error rate.
    """

    def __init__(self, metric: str, max_epochs: int, grace_epochs: int, min_pairs: int, p_value: float) -> None:
        """Makes a scheduler that has seen nothing; fewer than ``min_pairs`` pairs that differ decide nothing."""
        super().__init__()  # type: ignore[no-untyped-call]
        self._metric: Any = metric
        self._max_epochs, self._grace_epochs = max_epochs, grace_epochs
        self._min_pairs, self._p_value = min_pairs, p_value
        self._seen: dict[int, dict[str, tuple[float, NDArray[np.float64]]]] = {}

    def on_trial_result(self, tune_controller: "TuneController", trial: Trial, result: dict[str, Any]) -> str:
        """Compares a trial after an epoch with the best of the others after the same epoch."""
        epoch, value = int(result["training_iteration"]), float(result.get(self._metric, math.nan))
        if epoch >= self._max_epochs:
            return TrialScheduler.STOP
        own = np.asarray(result.get(PAIRS, ()), dtype=np.float64)
        seen = self._seen.setdefault(epoch, {})
        others = {name: each for name, each in seen.items() if name != trial.trial_id}
        if math.isfinite(value) and own.size:
            seen[trial.trial_id] = (value, own)
        best = max(others, key=lambda name: others[name][0], default=None)  # the first of equals
        if epoch < self._grace_epochs or best is None or others[best][1].shape != own.shape:
            return TrialScheduler.CONTINUE
        gains = own - others[best][1]
        gains = gains[gains != 0]
        if len(gains) < self._min_pairs:
            return TrialScheduler.CONTINUE
        p_value = float(wilcoxon(gains, alternative="less").pvalue)
        if not p_value <= self._p_value:
            return TrialScheduler.CONTINUE
        worse = f"worse than trial {best} on {int((gains < 0).sum())} of {len(own)} pairs"
        note_reason(trial, f"racing: {worse} at epoch {epoch}, p {p_value:.2g}")
        return TrialScheduler.STOP

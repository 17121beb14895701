"""The progress of a search: one row per trial, counts and the time left."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from search.space.objective import PARAMETERS, Objective
from search.study.trial_attributes import TRIAL_NUMBER


@dataclass
class TrialRow:
    """A trial's row in the table, with values of the first objective and times in seconds of ``time.monotonic``."""

    number: int
    config: dict[str, Any]
    started: float
    epoch: int = 0
    value: float = float("nan")
    best: float = float("nan")
    state: str = "running"
    parameters: int | None = None
    ended: float | None = None
    failure: str = ""
    is_complete: bool = False


@dataclass
class SearchProgress:
    """The rows of all trials that have begun, by Ray's trial id, and what the search plans.

    Attributes:
        concurrent: Trials at once.
        bar: Zero-shot's value of the objective, on validation; NaN where each trial has its own protocol.
        started: When the first trial could begin.
        trial_tags: Returns a trial's own MLflow tags, among them its number, by its Ray id; picklable.
        time_budget_s: Seconds that trials may take; None for no limit.
    """

    num_trials: int
    max_epochs: int
    concurrent: int
    bar: float
    started: float
    trial_tags: Callable[[str], Mapping[str, str]]
    time_budget_s: float | None = None
    objective: Objective = Objective()
    rows: dict[str, TrialRow] = field(default_factory=dict)

    def find_number(self, trial_id: str) -> int:
        """Returns a new row's number: the trial's in the study; a confirmation or refit is counted."""
        return int(self.trial_tags(trial_id).get(TRIAL_NUMBER, len(self.rows)))

    def add_ended(
        self, trial_id: str, config: Mapping[str, Any], state: str, epochs: Mapping[int, Mapping[str, float]]
    ) -> None:
        """Adds the row of a trial that ended, with these epochs, before the search was resumed."""
        now, metric = time.monotonic(), self.objective.metric
        last = epochs[max(epochs)] if epochs else {}
        values = [row[metric] for row in epochs.values() if math.isfinite(row.get(metric, math.nan))]
        self.rows[trial_id] = TrialRow(
            number=self.find_number(trial_id),
            config=dict(config),
            started=now - last.get("time_total_s", 0.0),
            epoch=max(epochs, default=0),
            value=last.get(metric, math.nan),
            best=max(values, default=math.nan),
            state=state,
            parameters=int(last[PARAMETERS]) if math.isfinite(last.get(PARAMETERS, math.nan)) else None,
            ended=now,
        )

    def estimate_seconds_left(self, now: float) -> float | None:
        """Estimates the time until the last trial ends, from the trials that ended, early or not, or from the running.

        ``now`` is by ``time.monotonic``. None before any trial has ended or reported an epoch.
        """
        ended = [row.ended - row.started for row in self.rows.values() if row.ended is not None]
        running = [row for row in self.rows.values() if row.ended is None]
        if ended:
            mean = sum(ended) / len(ended)
        else:
            paces = [(now - row.started) / row.epoch for row in running if row.epoch]
            if not paces:
                return None
            mean = sum(paces) / len(paces) * self.max_epochs
        rests = [self._estimate_rest(row, mean, now) for row in running]
        # Trials that are stopped early end first: their mean alone would promise too early an end.
        whole = [*ended, *(rest + now - row.started for row, rest in zip(running, rests, strict=True))]
        waiting = max(0, self.num_trials - len(self.rows)) * sum(whole) / len(whole)
        # The last trials leave cores idle: the search takes as long as the longest of them.
        left = max([(sum(rests) + waiting) / max(1, self.concurrent), *rests])
        if self.time_budget_s is not None:
            left = min(left, max(0.0, self.time_budget_s - (now - self.started)))
        return left

    def _estimate_rest(self, row: TrialRow, mean: float, now: float) -> float:
        elapsed = now - row.started
        if elapsed < mean or not row.epoch:
            return max(0.0, mean - elapsed)
        # It runs longer than the others, so it may well go on to its last epoch.
        return elapsed / row.epoch * max(0, self.max_epochs - row.epoch)

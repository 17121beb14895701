"""What the trials of a search cost, in epochs and in hours, and what early stopping saved."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from search.command_line.numbers import format_seconds
from search.reporting.data import TrialReport

_SECONDS = "time_this_iter_s"  # Ray Tune's: training, validation and checkpoint of an epoch


@dataclass(frozen=True)
class TrialsCost:
    """What the trials that ended took, failed ones left out, and what they would have taken in full.

    The seconds of trials that run at once add up; in full, each trial would go on as fast as it was. Seconds are 0 if
    they are not known.
    """

    epochs: int
    full_epochs: int
    seconds: float
    full_seconds: float

    def describe(self) -> str:
        """Returns two sentences at most; empty where no trial has ended."""
        if not self.epochs:
            return ""
        took = f"The trials took {self.epochs} epochs"
        took += f" and {format_seconds(self.seconds)} of trial time" if self.seconds else ""
        if self.epochs >= self.full_epochs:
            return f"{took}."
        saved = f"early stopping saved {1 - self.epochs / self.full_epochs:.0%}"
        saved += f" and about {format_seconds(self.full_seconds - self.seconds)}" if self.seconds else ""
        return f"{took}; all in full would have taken {self.full_epochs} epochs: {saved}."


def measure_cost(trials: Sequence[TrialReport], max_epochs: int) -> TrialsCost:
    """Returns the cost of a search's trials."""
    ended = [trial for trial in trials if trial.state in ("complete", "stopped") and trial.epochs]
    seconds = [sum(row.get(_SECONDS, math.nan) for row in trial.epochs.values()) for trial in ended]
    pace = [spent / len(trial.epochs) for spent, trial in zip(seconds, ended, strict=True)]
    is_known = all(map(math.isfinite, seconds))
    return TrialsCost(
        epochs=sum(len(trial.epochs) for trial in ended),
        full_epochs=len(ended) * max_epochs,
        seconds=sum(seconds) if is_known else 0.0,
        full_seconds=sum(pace) * max_epochs if is_known else 0.0,
    )

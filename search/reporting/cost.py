"""What the trials of a search cost, in epochs and in hours, and what early stopping saved."""

import math
from collections.abc import Sequence

from search.command_line.numbers import format_seconds
from search.reporting.data import TrialReport

_SECONDS = "time_this_iter_s"  # Ray Tune's: training, validation and checkpoint of an epoch


def describe_cost(trials: Sequence[TrialReport], max_epochs: int) -> str:
    """Returns two sentences at most on what the trials took, and would have taken in full; empty where none has ended.

    Failed trials are left out. The seconds of trials that run at once add up; in full, each trial would go on as fast
    as it was. Where the seconds of one are not known, none are named.
    """
    ended = [trial for trial in trials if trial.state in ("complete", "stopped") and trial.epochs]
    if not ended:
        return ""
    epochs, full_epochs = sum(len(trial.epochs) for trial in ended), len(ended) * max_epochs
    by_trial = [sum(row.get(_SECONDS, math.nan) for row in trial.epochs.values()) for trial in ended]
    seconds = sum(by_trial)
    took = f"The trials took {epochs} epochs"
    took += f" and {format_seconds(seconds)} of trial time" if math.isfinite(seconds) else ""
    if epochs >= full_epochs:
        return f"{took}."
    saved = f"early stopping saved {1 - epochs / full_epochs:.0%}"
    if math.isfinite(seconds):
        full_seconds = sum(spent / len(trial.epochs) for spent, trial in zip(by_trial, ended, strict=True)) * max_epochs
        saved += f" and about {format_seconds(full_seconds - seconds)}"
    return f"{took}; all in full would have taken {full_epochs} epochs: {saved}."

"""Ends a run of Ray Tune as a kill does, at a chosen moment."""

from typing import Any

from ray import tune


class Killed(Exception):
    """Ends a run of Tune from inside."""


class Killer(tune.Callback):
    """Ends it at its n-th result, before the checkpoint of that epoch is written."""

    def __init__(self, after: int) -> None:
        self.left = after

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: Any, **info: Any) -> None:
        self.left -= 1
        if not self.left:
            raise Killed

"""What a replayed search is worth: its incumbent's test Dice by epochs spent, and statistics over seeds."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.known_answers import TEST, Answers
from benchmarks.virtual_tune import Event

NEAR = 0.01  # test Dice below the best decile that counts as reached
N_RESAMPLES = 2_000
Floats = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Goal:
    """The best of a table, each configuration at its best validation epoch.

    Attributes:
        best: The highest test Dice.
        decile: The test Dice that a tenth of the drawn configurations reach.
        top_ten: Keys of the ten with the highest test Dice.
    """

    best: float
    decile: float
    top_ten: frozenset[int | str]


@dataclass(frozen=True)
class Outcome:
    """One replayed search.

    Attributes:
        incumbent: Test Dice of the epoch with the best validation figure so far, after each epoch spent.
        hours: Virtual time in hours.
    """

    incumbent: tuple[float, ...]
    hours: float

    @property
    def spent(self) -> int:
        """Epochs of all trials together."""
        return len(self.incumbent)

    def at(self, epochs: int) -> float:
        """Returns the incumbent's test Dice after so many epochs, or at the end; the first epoch's before that."""
        return self.incumbent[min(max(epochs, 1), self.spent) - 1]

    def count_until(self, dice: float) -> float:
        """Returns after how many epochs the incumbent first had this test Dice; infinity where it never did."""
        return next((float(number) for number, value in enumerate(self.incumbent, start=1) if value >= dice), math.inf)


def find_goal(answers: Answers, metric: str) -> Goal:
    """Returns the best of a table; starting points count for the best alone."""
    every = {key: _pick(answers.list_results(row), metric) for key, row in answers.table.rows.items()}
    values = {key: every[key] for key in answers.list_proposable()}
    order = sorted(values, key=lambda key: -values[key])
    decile = float(np.percentile(list(values.values()), 90))
    return Goal(max(every.values()), decile, frozenset(order[:10]))


def _pick(results: Sequence[Mapping[str, Any]], metric: str) -> float:
    """Returns the test Dice of the epoch that is best on validation, the first of equals; -inf without any."""
    scored = [result for result in results if math.isfinite(result.get(metric, math.nan))]
    return float(max(scored, key=lambda result: result[metric])[TEST]) if scored else -math.inf


def follow_incumbent(events: Sequence[Event], metric: str) -> Outcome:
    """Returns the outcome of a search from its epochs in their order."""
    best, test, incumbent = -math.inf, math.nan, []
    for event in events:
        result = event.trial.results[event.epoch - 1]
        if result.get(metric, math.nan) > best:
            best, test = result[metric], result[TEST]
        incumbent.append(test)
    return Outcome(tuple(incumbent), events[-1].time_s / 3600)


def count_survivors(events: Sequence[Event], answers: Answers, goal: Goal) -> int:
    """Counts the ten best configurations that were trained to their last epoch."""
    last = {answers.find_key(event.trial.config) for event in events if event.epoch == len(event.trial.results)}
    return len(goal.top_ten & last)


def bootstrap(values: Sequence[float], statistic: Callable[[Floats], Any] = np.mean) -> tuple[float, float, float]:
    """Returns a statistic over seeds with its 95 % percentile interval; the seeds are resampled."""
    data = np.array(values, np.float64)
    drawn = data[np.random.default_rng(0).integers(len(data), size=(N_RESAMPLES, len(data)))]
    # Infinite counts of epochs have a median, but no interpolated percentile.
    found = np.sort([float(statistic(one)) for one in drawn])
    low, high = found[int(0.025 * N_RESAMPLES)], found[int(0.975 * N_RESAMPLES) - 1]
    return float(statistic(data)), float(low), float(high)


def median(values: Floats) -> float:
    """Returns the median, the upper middle value of an even number: that of infinite values is defined."""
    return float(np.sort(values)[len(values) // 2])


def win_rate(mine: Sequence[Outcome], theirs: Sequence[Outcome], at_equal_epochs: bool = False) -> float:
    """Returns the share of seeds in which the first rule's test Dice is higher; equal ones count half.

    At equal epochs both are looked at when the one that spends less has ended.
    """
    pairs = list(zip(mine, theirs, strict=True))
    epochs = [min(a.spent, b.spent) if at_equal_epochs else max(a.spent, b.spent) for a, b in pairs]
    differences = np.array([a.at(number) - b.at(number) for (a, b), number in zip(pairs, epochs, strict=True)])
    return float((differences > 0).mean() + (differences == 0).mean() / 2)

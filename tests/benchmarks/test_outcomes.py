"""Incumbents, goals and statistics over seeds, by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from benchmarks.curve_table import CurveTable
from benchmarks.known_answers import Answers
from benchmarks.outcomes import Outcome, bootstrap, count_survivors, find_goal, follow_incumbent, median, win_rate
from benchmarks.virtual_tune import Event, VirtualTrial
from search.space.config import SearchConfig


def make_trial(val: list[float], test: list[float], config: dict[str, Any] | None = None) -> VirtualTrial:
    results = [{"val_dice": a, "test_dice": b} for a, b in zip(val, test, strict=True)]
    return VirtualTrial("t", config or {}, tuple(results))


def test_the_incumbent_is_the_best_epoch_on_validation_so_far() -> None:
    one, two = make_trial([0.5, 0.7, 0.7], [0.1, 0.2, 0.3]), make_trial([0.6, math.nan], [0.4, 0.9])
    events = [Event(1, one, 1), Event(2, two, 1), Event(3, two, 2), Event(3600, one, 2), Event(7200, one, 3)]
    outcome = follow_incumbent(events, "val_dice")
    assert outcome == Outcome((0.1, 0.4, 0.4, 0.2, 0.2), 2.0)
    assert (outcome.spent, outcome.at(2), outcome.at(99), outcome.at(0)) == (5, 0.4, 0.2, 0.1)
    assert (outcome.count_until(0.4), outcome.count_until(0.5)) == (2, math.inf)


def test_the_goal_is_that_of_the_drawn_configurations(table: CurveTable, config: SearchConfig) -> None:
    answers = Answers(table, config)
    goal, last = find_goal(answers, "val_dice"), {key: row.metrics["test_dice"][-1] for key, row in table.rows.items()}
    drawn = sorted((last[key] for key in range(30)), reverse=True)
    assert goal.best == last["first"] and goal.decile == pytest.approx(np.percentile(drawn, 90))
    assert goal.top_ten == {key for key in range(30) if last[key] >= drawn[9]}
    best = next(iter(goal.top_ten))
    trial = VirtualTrial("t", dict(table.rows[best].params), answers.list_results(table.rows[best]))
    assert count_survivors([Event(1, trial, 3)], answers, goal) == 0
    assert count_survivors([Event(1, trial, 4)], answers, goal) == 1


def test_seeds_are_compared_one_by_one() -> None:
    mine = [Outcome((0.1, 0.5), 0), Outcome((0.3, 0.3), 0), Outcome((0.4,), 0)]
    theirs = [Outcome((0.2,), 0), Outcome((0.3,), 0), Outcome((0.5,), 0)]
    assert win_rate(mine, theirs) == pytest.approx(0.5)
    assert win_rate(mine, theirs, at_equal_epochs=True) == pytest.approx(1 / 6)


def test_intervals_hold_the_statistic_and_infinite_counts_have_a_median() -> None:
    mean, low, high = bootstrap(list(np.linspace(0, 1, 50)))
    assert mean == pytest.approx(0.5) and 0.35 < low < 0.5 < high < 0.65
    assert bootstrap([5.0, math.inf, math.inf], median)[0] == math.inf
    assert median(np.array([3.0, 1.0, math.inf])) == 3.0

"""The estimate of the time left."""

from typing import Any

import pytest

from search.tuning.progress import SearchProgress, TrialRow

Row = tuple[float, float | None, int]  # start and end in seconds, epochs


def make_progress(rows: list[Row], **plan: Any) -> SearchProgress:
    counts = {"num_trials": 4, "max_epochs": 8, "concurrent": 2}
    progress = SearchProgress(**{**counts, "bar": 0.5, "started": 0.0, "trial_tags": lambda _: {}, **plan})
    for number, (started, ended, epoch) in enumerate(rows):
        progress.rows[f"t{number}"] = TrialRow(number, {}, started, epoch=epoch, ended=ended)
    return progress


@pytest.mark.parametrize("rows", [[], [(0.0, None, 0)]])
def test_nothing_is_estimated_before_a_trial_has_reported(rows: list[Row]) -> None:
    assert make_progress(rows, time_budget_s=100.0).estimate_seconds_left(now=5.0) is None


@pytest.mark.parametrize(
    ("plan", "rows", "now", "expected"),
    [
        # Before a trial ends, the pace of the running counts. 10 s for 2 of 8 epochs: 40 s a trial; 30 s for the
        # running ones, 40 s for the two that wait.
        ({}, [(0.0, None, 2), (0.0, None, 2)], 10.0, 70.0),
        # Trials that ended show how long the others take.
        (
            {"num_trials": 6},
            [(0.0, 10.0, 0), (0.0, 30.0, 0), (30.0, None, 1), (30.0, None, 1)],
            *(40.0, (2 * 10 + 2 * 20) / 2),
        ),
        # The last trial does not share its time with idle cores.
        ({"num_trials": 2, "concurrent": 4}, [(0.0, 20.0, 0), (20.0, None, 0)], 25.0, 15.0),
        # A trial that runs longer than the others takes its own pace.
        ({"num_trials": 2, "concurrent": 1}, [(0.0, 10.0, 1), (10.0, None, 4)], 50.0, 40.0),
        # Trials that stopped early promise no early end: 70 s for the one that runs; the one that waits takes the mean
        # of 10 s and 80 s.
        ({"num_trials": 3, "concurrent": 1}, [(0.0, 10.0, 1), (0.0, None, 1)], 10.0, 115.0),
        # The time budget bounds the estimate.
        *[
            ({"num_trials": 100, "time_budget_s": 60.0}, [(0.0, 40.0, 0)], now, left)
            for now, left in ((40.0, 20.0), (59.0, 1.0), (61.0, 0.0))
        ],
        # A trial that a restart lost is tried again, so that more began than planned.
        ({"num_trials": 1}, [(0.0, 10.0, 0)] * 2, 20.0, 0.0),
    ],
)
def test_the_time_left_is_estimated(plan: dict[str, Any], rows: list[Row], now: float, expected: float) -> None:
    assert make_progress(rows, **plan).estimate_seconds_left(now) == pytest.approx(expected)

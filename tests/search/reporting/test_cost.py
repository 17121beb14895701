"""What trials cost, in epochs and hours."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import pytest

from search.reporting.cost import describe_cost
from search.reporting.data import TrialReport


def make_trial(state: str, seconds: Sequence[float]) -> TrialReport:
    names = {field.name: None for field in dataclasses.fields(TrialReport)}
    epochs = {epoch: {"time_this_iter_s": each} for epoch, each in enumerate(seconds, start=1)}
    fields: dict[str, Any] = {**names, "state": state, "epochs": epochs}
    return TrialReport(**fields)


def test_what_was_stopped_would_have_gone_on_at_its_own_pace() -> None:
    trials = [make_trial("complete", [100.0] * 4), make_trial("stopped", [300.0]), make_trial("failed", [9.0])]
    words = "The trials took 5 epochs and 11 min 40 s of trial time; all in full would have taken 8 epochs: "
    assert describe_cost(trials, 4) == f"{words}early stopping saved 38% and about 15 min 0 s."


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        ([], ""),
        ([[900.0] * 4] * 2, "The trials took 8 epochs and 2 h 0 min of trial time."),
        (
            [[math.nan], [5.0]],
            "The trials took 2 epochs; all in full would have taken 8 epochs: early stopping saved 75%.",
        ),
    ],
)
def test_what_is_not_known_is_left_out(seconds: list[list[float]], words: str) -> None:
    assert describe_cost([make_trial("stopped", each) for each in seconds], 4) == words

"""A search whose time is over ends like any other: the trials that it stops count as stopped, everywhere."""

from __future__ import annotations

from pathlib import Path

import pytest
from searches import DATA, describe_search, read_screen, read_study, start_search

pytestmark = pytest.mark.slow

# More than any machine trains in the time, and enough for a first epoch on a slow one.
OPTIONS = ("--num-trials", "200", "--max-epochs", "8", "--confirm", "0", "--max-concurrent", "1")


def test_trials_that_a_time_budget_stops_have_ended(work_folder: Path) -> None:
    budget = ("--time-budget", "25", "--name", "job")
    process = start_search(work_folder, *DATA, *OPTIONS, *budget)
    assert process.wait() == 0, read_screen(work_folder)
    screen = read_screen(work_folder)
    assert "Traceback" not in screen and "running" not in screen and "unfinished" not in screen
    states = {trial.state.name for trial in read_study(work_folder / "runs" / "job")}
    assert states <= {"COMPLETE", "PRUNED", "FAIL"}, states
    found = describe_search(work_folder, "job")
    assert set(found["statuses"]) <= {"FINISHED", "FAILED"} and found["parent"] == "FINISHED"
    assert start_search(work_folder, "--resume", "job").wait() == 0
    assert "job is finished: nothing to go on with" in read_screen(work_folder)

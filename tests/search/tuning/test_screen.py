"""The live table and the time left, by the hooks that Tune calls."""

from __future__ import annotations

import io
import math
import pickle
import time
from dataclasses import dataclass, field
from typing import Any

import pytest
from rich.console import Console

from search.command_line.options import format_seconds
from search.space.objective import PAIR, Objective
from search.tuning.progress import SearchProgress, TrialRow
from search.tuning.screen import SHOWN_PARAMETERS, ProgressCallback

CONFIG: dict[str, Any] = {
    "optim.lr": 3.2e-4,
    "loss.focal": 20.0,
    "loss.dice": 1.234,
    "adapter.rank": 16,
    "optim.batch_size": 4,
    "augment.kind": "elastic",
    "adapter.targets": "image_encoder",
}
HEADING = "lora-20260101-101010 - demo data (synthetic tissue) and demo model (nano, 2.5 M parameters) - protocol box"


@dataclass
class Trial:
    """What the callback reads of Tune's trials."""

    trial_id: str
    config: dict[str, Any] = field(default_factory=lambda: dict(CONFIG))
    retries_left: bool = False
    status: str = "RUNNING"

    def should_recover(self) -> bool:
        return self.retries_left


def make_progress(num_trials: int = 4, max_epochs: int = 8, concurrent: int = 2, **more: Any) -> SearchProgress:
    return SearchProgress(num_trials, max_epochs, concurrent, 0.5, started=0.0, **more)


def add_row(progress: SearchProgress, started: float, ended: float | None = None, epoch: int = 0) -> None:
    number = len(progress.rows)
    progress.rows[f"t{number}"] = TrialRow(number, {}, started, epoch=epoch, ended=ended)


def make_callback(num_trials: int = 4, width: int = 100, terminal: bool = False, height: int = 25) -> ProgressCallback:
    console = Console(
        file=io.StringIO(), width=width, height=height, force_terminal=terminal, color_system=None, legacy_windows=False
    )
    return ProgressCallback(make_progress(num_trials), HEADING, console)


def report(callback: ProgressCallback, trial: Trial, epoch: int, dice: float) -> None:
    callback.on_trial_result(epoch, [], trial, {"training_iteration": epoch, "val_dice": dice})


def read_screen(callback: ProgressCallback) -> str:
    file = callback.console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def test_nothing_is_estimated_before_there_is_anything_to_go_by() -> None:
    progress = make_progress(time_budget_s=100.0)
    assert progress.estimate_seconds_left(now=5.0) is None
    add_row(progress, started=0.0)
    assert progress.estimate_seconds_left(now=5.0) is None


def test_before_a_trial_ends_the_pace_of_the_running_counts() -> None:
    progress = make_progress(num_trials=4, max_epochs=8, concurrent=2)
    add_row(progress, started=0.0, epoch=2)
    add_row(progress, started=0.0, epoch=2)
    # 10 s for 2 of 8 epochs: 40 s a trial; 30 s for the running ones, 40 s for the two that wait
    assert progress.estimate_seconds_left(now=10.0) == pytest.approx(70)


def test_trials_that_ended_tell_how_long_the_others_take() -> None:
    progress = make_progress(num_trials=6, concurrent=2)
    add_row(progress, 0.0, ended=10.0)
    add_row(progress, 0.0, ended=30.0)
    add_row(progress, 30.0, epoch=1)
    add_row(progress, 30.0, epoch=1)
    assert progress.estimate_seconds_left(now=40.0) == pytest.approx((2 * 10 + 2 * 20) / 2)


def test_the_last_trial_is_not_shared_among_idle_cores() -> None:
    progress = make_progress(num_trials=2, concurrent=4)
    add_row(progress, 0.0, ended=20.0)
    add_row(progress, 20.0)
    assert progress.estimate_seconds_left(now=25.0) == pytest.approx(15)


def test_a_trial_that_outlives_the_others_takes_its_own_pace() -> None:
    progress = make_progress(num_trials=2, max_epochs=8, concurrent=1)
    add_row(progress, 0.0, ended=10.0, epoch=1)
    add_row(progress, 10.0, epoch=4)
    assert progress.estimate_seconds_left(now=50.0) == pytest.approx(40)


def test_trials_stopped_early_do_not_promise_an_early_end() -> None:
    progress = make_progress(num_trials=3, max_epochs=8, concurrent=1)
    add_row(progress, 0.0, ended=10.0, epoch=1)
    add_row(progress, 0.0, epoch=1)
    # 70 s for the one that runs; the one that waits takes the mean of 10 s and 80 s
    assert progress.estimate_seconds_left(now=10.0) == pytest.approx(115)


@pytest.mark.parametrize(("now", "expected"), [(40.0, 20.0), (59.0, 1.0), (61.0, 0.0)])
def test_the_time_budget_bounds_the_estimate(now: float, expected: float) -> None:
    progress = make_progress(num_trials=100, time_budget_s=60.0)
    add_row(progress, 0.0, ended=40.0)
    assert progress.estimate_seconds_left(now) == pytest.approx(expected)


def test_nothing_is_left_when_all_have_ended_or_more_began_than_planned() -> None:
    progress = make_progress(num_trials=1)
    for _ in range(2):  # a trial that a restart lost is tried again
        add_row(progress, 0.0, ended=10.0)
    assert progress.estimate_seconds_left(now=20.0) == 0


def test_rows_follow_the_hooks() -> None:
    callback = make_callback()
    whole, early, broken, never = (Trial(f"t{number}") for number in range(4))
    for trial in (whole, early, broken):
        callback.on_trial_start(0, [], trial)
    for epoch in range(1, 9):
        report(callback, whole, epoch, 0.6 if epoch == 3 else 0.55)
    report(callback, early, 1, 0.4)
    callback.on_trial_complete(0, [], whole)
    callback.on_trial_complete(0, [], early)
    callback.on_trial_error(0, [], broken)
    callback.on_trial_error(0, [], never)  # its setup failed: Tune never told its start
    rows = list(callback.progress.rows.values())
    assert [row.state for row in rows] == ["complete", "stopped", "failed", "failed"]
    assert [row.number for row in rows] == [0, 1, 2, 3]
    assert (rows[0].epoch, rows[0].value, rows[0].best) == (8, 0.55, 0.6)
    assert all(row.ended is not None for row in rows)
    assert callback.progress.best is rows[0]


def test_another_objective_is_what_the_table_shows() -> None:
    callback = make_callback()
    callback.progress.objective = Objective(("val_dice_min_class",))
    trial = Trial("a")
    row = {"training_iteration": 8, "val_dice": 0.9, "val_dice_min_class": 0.55}
    callback.on_trial_result(1, [], trial, row)
    callback.on_trial_complete(1, [], trial)
    callback.on_experiment_end([])
    text = read_screen(callback)
    assert "best lowest class Dice 0.550 (+0.050)" in text and "bar: zero-shot lowest class Dice 0.500" in text
    assert "0.900" not in text and "is recorded" not in text  # the recorded bar is one of Dice


def test_with_two_objectives_the_table_tells_the_size() -> None:
    callback = make_callback()
    callback.progress.objective = Objective(PAIR)
    trial = Trial("a")
    row = {"training_iteration": 8, "val_dice": 0.6, "trained_parameters": 95_520}
    callback.on_trial_result(1, [], trial, row)
    callback.on_experiment_end([])
    text = read_screen(callback)
    assert "95,520" in text and "optimized: val Dice (up) and trained parameters (down)" in text


def test_a_trial_that_time_ran_out_for_may_end_unstarted() -> None:
    callback = make_callback()
    callback.on_trial_complete(0, [], Trial("pending"))
    assert callback.progress.rows["pending"].state == "stopped"
    assert callback.progress.best is None


def test_results_without_a_score_and_nan_leave_the_best_alone() -> None:
    callback = make_callback()
    trial = Trial("t")
    callback.on_trial_start(0, [], trial)
    callback.on_trial_result(0, [], trial, {"training_iteration": 1})
    assert math.isnan(callback.progress.rows["t"].best)
    report(callback, trial, 1, math.nan)
    report(callback, trial, 2, 0.4)
    report(callback, trial, 3, math.nan)
    assert callback.progress.rows["t"].best == 0.4


def run_hooks(callback: ProgressCallback, n_trials: int) -> str:
    """Starts trials and ends all but the last two; returns all that was printed."""
    trials = [Trial(f"t{number}") for number in range(n_trials)]
    callback.setup()
    for number, trial in enumerate(trials):
        callback.on_trial_start(0, trials, trial)
        report(callback, trial, 8 if number % 2 else 1, 0.45 + number / 100)
        if number < n_trials - 2:
            callback.on_trial_complete(0, trials, trial)
    callback.on_experiment_end(trials)
    return read_screen(callback)


def test_trials_that_a_time_budget_stopped_have_ended() -> None:
    callback = make_callback()
    trials = [Trial("t0", status="TERMINATED"), Trial("t1", status="TERMINATED"), Trial("t2", status="TERMINATED")]
    for trial in trials[:2]:  # the third was never started
        callback.on_trial_start(0, trials, trial)
    report(callback, trials[0], 3, 0.4)
    callback.on_experiment_end(trials)
    assert [(row.state, row.ended is None) for row in callback.progress.rows.values()] == [
        ("stopped", False),
        ("failed", False),
    ]
    screen = read_screen(callback)
    assert "trial   1 failed: stopped before its first result" in screen and "running" not in screen


# Trials of the search itself have neither a seed of their own nor a trial that they come from.
RECIPE_TITLES = [title for name, title in SHOWN_PARAMETERS.items() if "." in name]


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize(("width", "n_parameters"), [(80, 2), (100, 5), (160, len(RECIPE_TITLES))])
def test_the_table_keeps_only_what_fits(width: int, n_parameters: int, terminal: bool) -> None:
    screen = run_hooks(make_callback(6, width, terminal), 6)
    assert "…" not in screen
    last = screen[screen.rindex("trial ┃") :].splitlines()
    titles = [title.strip() for title in last[0].split("┃")]
    assert titles == [
        *("trial", "state", "epoch", "val Dice", "best", "vs zero-shot"),
        *RECIPE_TITLES[:n_parameters],
    ]
    assert all(len(line) <= width for line in last)
    first = [cell.strip() for cell in last[2].split("│")]
    assert first[:7] == ["5", "running", "8/8", "0.500", "0.500", "+0.000", "0.00032"]
    assert f"bar: zero-shot val Dice {0.5:.3f} (measured here)" in screen
    assert "4/6 trials ended, about" in screen


def test_parameters_that_are_not_searched_take_no_room() -> None:
    callback = make_callback(width=80)
    callback.on_trial_start(0, [], Trial("t", {"adapter.targets": "both"}))
    callback.on_experiment_end([])
    assert "vs zero-shot ┃ targets\n" in read_screen(callback)


def test_an_empty_table_can_be_drawn() -> None:
    callback = make_callback(width=80)
    callback.on_experiment_end([])
    assert "0/4 trials ended, estimating time left" in read_screen(callback)


def test_a_file_gets_a_whole_line_a_trial_and_every_row() -> None:
    screen = run_hooks(make_callback(40, width=60), 40)
    lines = screen.splitlines()
    assert sum(line.startswith("trial ") and "best val Dice" in line for line in lines) == 38
    assert "trial   0 stopped  epoch  1/8  best val Dice 0.450 (-0.050)  1/40 trials ended, about" in lines[0]
    assert HEADING in lines
    assert "more trials" not in screen


def test_a_terminal_shows_the_best_rows_and_says_how_many_it_leaves_out() -> None:
    callback = make_callback(40, terminal=True, height=24)
    screen = run_hooks(callback, 40)
    assert "... and 26 more trials, none better" in screen
    assert callback._live is None


def test_a_trial_without_a_score_says_so() -> None:
    callback = make_callback()
    callback.on_trial_error(0, [], Trial("t"))
    assert "failed   epoch  0/8  no score" in read_screen(callback)
    assert "nan" not in read_screen(callback)


def test_a_trial_that_is_made_anew_has_not_ended() -> None:
    callback, trial = make_callback(), Trial("t", retries_left=True)
    callback.on_trial_start(0, [], trial)
    callback.on_trial_error(0, [], trial)
    (row,) = callback.progress.rows.values()
    assert (row.ended, row.failure) == (None, "") and "failed" not in read_screen(callback)


def test_names_with_brackets_are_no_markup() -> None:
    callback = make_callback()
    callback.heading = "data [bold]x[/bold] [/nothing] :smile:"
    callback.on_experiment_end([])
    assert callback.heading in read_screen(callback)


def test_a_pickled_callback_keeps_its_rows() -> None:
    callback = make_callback(terminal=True)
    callback.setup()
    callback.on_trial_start(0, [], Trial("t"))
    copy = pickle.loads(pickle.dumps(callback))
    callback.close()
    assert copy.progress.rows["t"].config == CONFIG
    assert copy.heading == HEADING
    copy.on_trial_complete(0, [], Trial("t"))
    assert copy.progress.rows["t"].state == "stopped"


def test_tunes_own_trials_fit() -> None:
    from ray.tune.experiment import Trial as TuneTrial
    from ray.tune.registry import register_trainable

    register_trainable("progress-test", lambda config: None)
    trial = TuneTrial("progress-test", config=dict(CONFIG), stub=True)
    callback = make_callback()
    callback.on_trial_start(0, [trial], trial)
    callback.on_trial_complete(0, [trial], trial)
    row = callback.progress.rows[trial.trial_id]
    assert row.config == CONFIG
    assert row.ended is not None and row.ended <= time.monotonic()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (130, "2 min 10 s"), (3599, "59 min 59 s"), (11100, "3 h 5 min")],
)
def test_seconds_are_told_for_people(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text

"""The live table, by the hooks that Tune calls."""

import io
import math
import pickle
import time
from dataclasses import dataclass, field
from typing import Any

import pytest
from rich.console import Console

from search.space.objective import PAIR, Objective
from search.tuning.progress import SearchProgress
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


def find_tags(trial_id: str) -> dict[str, str]:
    """Returns the number in the study of a trial whose id is one: ``7``; nothing for others."""
    return {"trial_number": trial_id} if trial_id.isdecimal() else {}


def make_callback(num_trials: int = 4, width: int = 100, terminal: bool = False, height: int = 25) -> ProgressCallback:
    console = Console(
        file=io.StringIO(), width=width, height=height, force_terminal=terminal, color_system=None, legacy_windows=False
    )
    return ProgressCallback(SearchProgress(num_trials, 8, 2, 0.5, 0.0, find_tags), HEADING, console)


def report(callback: ProgressCallback, trial: Trial, epoch: int, dice: float) -> None:
    callback.on_trial_result(epoch, [], trial, {"training_iteration": epoch, "val_dice": dice})


def read_screen(callback: ProgressCallback) -> str:
    file = callback.console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


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
    callback.on_trial_error(0, [], never)  # its setup failed: Tune reported no start
    callback.on_trial_complete(0, [], Trial("pending"))  # time ran out for it
    rows = list(callback.progress.rows.values())
    assert [row.state for row in rows] == ["complete", "stopped", "failed", "failed", "stopped"]
    assert [row.number for row in rows] == [0, 1, 2, 3, 4]
    assert (rows[0].epoch, rows[0].value, rows[0].best) == (8, 0.55, 0.6)
    assert all(row.ended is not None for row in rows)


def test_a_trial_that_ran_out_of_patience_is_complete() -> None:
    callback, trial = make_callback(), Trial("t0")
    callback.on_trial_result(2, [], trial, {"training_iteration": 2, "val_dice": 0.5, "complete": True})
    callback.on_trial_complete(0, [], trial)
    assert callback.progress.rows["t0"].state == "complete"


def test_a_resumed_search_numbers_its_trials_as_mlflow_and_the_report_do() -> None:
    callback = make_callback()
    callback.progress.add_ended("2", CONFIG, "complete", {8: {"val_dice": 0.6}})  # trial 0 failed and is tried again
    for trial_id in ("1", "3"):
        callback.on_trial_start(0, [], Trial(trial_id))
    callback.on_trial_complete(0, [], Trial("1"))
    assert [row.number for row in callback.progress.rows.values()] == [2, 1, 3]
    assert "trial   1 stopped" in read_screen(callback)


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


def test_with_two_objectives_the_table_shows_the_size() -> None:
    callback = make_callback()
    callback.progress.objective = Objective(PAIR)
    trial = Trial("a")
    row = {"training_iteration": 8, "val_dice": 0.6, "trained_parameters": 95_520}
    callback.on_trial_result(1, [], trial, row)
    callback.on_experiment_end([])
    text = read_screen(callback)
    assert "95,520" in text and "optimized: val Dice (up) and trained parameters (down)" in text


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
    trials = [Trial(f"t{number}", status="TERMINATED") for number in range(3)]
    for trial in trials[:2]:  # the third was never started
        callback.on_trial_start(0, trials, trial)
    report(callback, trials[0], 3, 0.4)
    callback.on_experiment_end(trials)
    ended = [(row.state, row.ended is None) for row in callback.progress.rows.values()]
    assert ended == [("stopped", False), ("failed", False)]
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
    assert titles == [*("trial", "state", "epoch", "val Dice", "best", "vs zero-shot"), *RECIPE_TITLES[:n_parameters]]
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


@pytest.mark.parametrize(("width", "height"), [(80, 24), (160, 50)])
def test_two_hundred_trials_keep_to_the_screen_which_shows_the_best_and_what_runs(width: int, height: int) -> None:
    callback = make_callback(200, width, terminal=True, height=height)
    trials = [Trial(f"t{number}") for number in range(200)]
    for number, trial in enumerate(trials):
        callback.on_trial_start(0, trials, trial)
        if number % 10 == 9 and number < 190:  # without a score
            callback.on_trial_error(0, [], trial)
        elif number < 196:
            report(callback, trial, 1, 0.3 if number >= 190 else 0.4 + number / 1000)
        if number < 190:
            callback.on_trial_complete(0, trials, trial)
    lines = ["".join(part.text for part in line).rstrip() for line in callback.console.render_lines(callback.render())]
    assert len(lines) <= height - 1  # the cursor's own line
    shown = {line.split()[0]: line.split()[2] for line in lines if " │ " in line}
    n_running = min(10, (height - 10) // 2)
    assert len(shown) == height - 10
    assert {"188", "187", "186"} <= shown.keys() and list(shown.values()).count("running") == n_running
    assert "failed" not in shown.values()
    n_hidden = 200 - len(shown)
    run = "; 3 of them run" if n_running == 7 else ""
    assert f"... and {n_hidden} more trials, none better{run}" in lines


def test_a_trial_that_is_made_anew_has_not_ended_and_one_without_a_score_says_so() -> None:
    callback, trial = make_callback(), Trial("t", retries_left=True)
    callback.on_trial_start(0, [], trial)
    callback.on_trial_error(0, [], trial)
    (row,) = callback.progress.rows.values()
    assert (row.ended, row.failure) == (None, "") and "failed" not in read_screen(callback)
    callback.on_trial_error(0, [], Trial("t"))
    screen = read_screen(callback)
    assert "failed   epoch  0/8  no score" in screen and "nan" not in screen


def test_a_paused_trial_says_so_until_it_goes_on() -> None:
    callback, trial = make_callback(), Trial("a")
    callback.on_trial_start(0, [trial], trial)
    for status, shown in (("PAUSED", "paused"), ("RUNNING", "running")):
        trial.status = status
        callback.on_step_end(0, [trial])
        assert callback.progress.rows[trial.trial_id].state == shown


def test_an_empty_table_can_be_drawn_and_names_with_brackets_are_no_markup() -> None:
    callback = make_callback(width=80)
    callback.heading = "data [bold]x[/bold] [/nothing] :smile:"
    callback.on_experiment_end([])
    screen = read_screen(callback)
    assert callback.heading in screen and "0/4 trials ended, estimating time left" in screen


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

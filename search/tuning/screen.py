"""The live table of trials on the screen, as a Ray Tune callback."""

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from search.cluster.failures import describe_failure, is_made_anew
from search.command_line.numbers import format_seconds
from search.space.objective import PARAMETERS
from search.space.parameters import spell_value
from search.study.trial_attributes import FROM_TRIAL, NO_RESULT
from search.tuning.progress import SearchProgress, TrialRow
from search.tuning.seed_race import SeedRace
from trainables.context import COMPLETE, FAILURE, SEED_KEY

# In the order in which they get room.
SHOWN_PARAMETERS = {
    FROM_TRIAL: "of trial",
    SEED_KEY: "seed",
    "optim.lr": "lr",
    "loss.focal": "focal",
    "loss.dice": "dice",
    "adapter.rank": "rank",
    "optim.batch_size": "batch",
    "augment.kind": "augment",
    "adapter.targets": "targets",
}
_GAP = 3  # characters between two columns of a table without edges


class ProgressCallback(Callback):
    """Shows the trials while they run: on a terminal a table that redraws itself, else a line for each ended trial.

    Text is printed without markup, and no line is wrapped: a terminal wraps by itself, a file needs none.
    """

    def __init__(self, progress: SearchProgress, heading: str, console: Console, race: SeedRace | None = None) -> None:
        """Takes the progress, which it fills, a line above the table (model, data, protocol), and where to show it.

        In a race of finalists it says who leaves, and expects fewer trials then.
        """
        self.progress, self.heading, self.console, self._race = progress, heading, console, race
        self._followed: set[str] | None = None
        self._n_said = 0
        self._live: Live | None = None

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles callbacks before it runs them; a screen cannot be pickled and is opened anew.
        width = None if self.console.is_terminal else self.console.width
        return {"progress": self.progress, "heading": self.heading, "width": width, "race": self._race}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.progress, self.heading, self._race = state["progress"], state["heading"], state["race"]
        self.console, self._live = Console(width=state["width"]), None
        self._followed, self._n_said = None, 0  # as it was before the first trial

    def setup(self, *args: Any, **kwargs: Any) -> None:
        """Opens the live table; called once, when the search starts."""
        if self.console.is_terminal:
            self._live = Live(self.render(), console=self.console, refresh_per_second=2, transient=True)
            self._live.start()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Adds a row."""
        self._find_row(trial)
        self._redraw()

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Updates the trial's row after an epoch."""
        row = self._find_row(trial)
        row.epoch = result.get("training_iteration", row.epoch)
        row.parameters = result.get(PARAMETERS, row.parameters)
        row.failure = str(result.get(FAILURE, ""))
        row.is_complete = row.epoch >= self.progress.max_epochs or bool(result.get(COMPLETE))
        metric = self.progress.objective.metric
        if metric in result:  # a refit on all regions has nothing to validate on
            row.value = result[metric]
            row.best = row.value if row.best != row.best else max(row.best, row.value)
        self._redraw()

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Marks the rows of trials that a scheduler has paused, which the next event shows; follows a race."""
        for trial in trials:
            row = self.progress.rows.get(trial.trial_id)
            if row is not None and row.ended is None:
                row.state = "paused" if trial.status == Trial.PAUSED else "running"
        self.follow_race()

    def follow_race(self) -> None:
        """Where trials of a race have ended, says who has left it, and how many trials are expected now.

        Raises:
            SearchError: If a checkpoint cannot be fetched.
        """
        ended = {trial_id for trial_id, row in self.progress.rows.items() if row.ended is not None}
        if self._race is None or ended == self._followed:
            return
        self._followed, standing = ended, self._race.read(ended)
        self.progress.num_trials = self._race.count_trainings(standing)
        for line in standing.words[self._n_said :]:
            self._print(f"  {line}")
        self._n_said = len(standing.words)
        self._redraw()

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Marks the row as complete, or as stopped before its last epoch by something else than its own patience."""
        row = self._find_row(trial)
        ended = "complete" if row.is_complete else "stopped"
        self._end(row, "failed" if row.failure else ended)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Marks the row as failed, unless the trial is made anew."""
        if is_made_anew(trial):
            return
        row = self._find_row(trial)
        row.failure = describe_failure(trial)
        self._end(row, "failed")

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Prints that the trial is retried from its last checkpoint, and why."""
        self._print(f"trial {self._find_row(trial).number:3d} is tried again: {describe_failure(trial)}")

    def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
        """Closes the live table and prints the last one, with the trials that a time budget stopped."""
        self.close()
        for trial in trials:
            row = self.progress.rows.get(trial.trial_id)
            if row is not None and row.ended is None and trial.status == Trial.TERMINATED:
                row.failure = "" if row.epoch else NO_RESULT
                self._end(row, "failed" if row.failure else "stopped")
        self._print(self.render())

    def close(self) -> None:
        """Closes the live table."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _find_row(self, trial: Any) -> TrialRow:
        """Returns the trial's row, a new one for a trial that ends before it started (setup fails, or time is up)."""
        rows, trial_id = self.progress.rows, trial.trial_id
        if trial_id not in rows:
            rows[trial_id] = TrialRow(self.progress.find_number(trial_id), dict(trial.config), time.monotonic())
        return rows[trial_id]

    def _end(self, row: TrialRow, state: str) -> None:
        row.state, row.ended = state, time.monotonic()
        self._redraw()
        if self._live is None:
            score = "no score"
            if row.best == row.best:
                gain = row.best - self.progress.bar
                score = f"best {self.progress.objective.label} {row.best:.3f}"
                score += f" ({gain:+.3f})" if gain == gain else ""
            self._print(
                f"trial {row.number:3d} {state:8s} epoch {row.epoch:2d}/{self.progress.max_epochs}  "
                f"{score}  {self._describe_count()}"
            )
        if row.failure:
            self._print(f"trial {row.number:3d} failed: {row.failure}")

    def _print(self, content: str | Group) -> None:
        self.console.print(content, markup=False, emoji=False, highlight=False, soft_wrap=True)

    def _redraw(self) -> None:
        if self._live is not None:
            self._live.update(self.render())

    def render(self) -> Group:
        """Returns heading, table and the lines below it."""
        rows = self._choose_rows()
        return Group(Text(self.heading, style="bold"), self._make_table(rows), Text("\n".join(self._list_notes(rows))))

    def _list_notes(self, rows: list[TrialRow]) -> list[str]:
        shown = {row.number for row in rows}
        hidden = [row for row in self.progress.rows.values() if row.number not in shown]
        n_running = sum(row.state == "running" for row in hidden)
        running = f"; {n_running} of them run" if n_running else ""
        return [
            *([f"... and {len(hidden)} more trials, none better{running}"] if hidden else []),
            *(self._describe_bar() if self.progress.bar == self.progress.bar else []),
            self._describe_count(),
        ]

    def _describe_bar(self) -> list[str]:
        objective = self.progress.objective
        lines = [f"bar: zero-shot {objective.label} {self.progress.bar:.3f} (measured here)"]
        return lines if objective.is_dice else [*lines, f"optimized: {objective.describe()}"]

    def _describe_count(self) -> str:
        total = self.progress.num_trials
        ended = sum(row.ended is not None for row in self.progress.rows.values())
        if ended >= total:
            return f"{ended}/{total} trials ended"
        seconds = self.progress.estimate_seconds_left(time.monotonic())
        left = "estimating time left" if seconds is None else f"about {format_seconds(seconds)} left"
        return f"{ended}/{total} trials ended, {left}"

    def _choose_rows(self) -> list[TrialRow]:
        """Returns the rows to show, the best first: a file takes them all, a screen those that run and the best."""
        rows = sorted(self.progress.rows.values(), key=_rank)
        room = max(5, self.console.size.height - 10) if self.console.is_terminal else len(rows)
        running = [row.number for row in rows if row.state == "running"][: room // 2]
        best = [row.number for row in rows if row.number not in running][: room - len(running)]
        return [row for row in rows if row.number in running or row.number in best]

    def _make_table(self, rows: list[TrialRow]) -> Table:
        cells = [self._list_cells(row) for row in rows]
        table = Table(show_edge=False, pad_edge=False, header_style="bold")
        objective = self.progress.objective
        scores = ["trial", "state", "epoch", objective.label, "best", "vs zero-shot"]
        titles = _choose_columns(cells, [*scores, "trained"] if objective.is_pair else scores, self.console.width)
        for title in titles:
            style = "dim" if title in SHOWN_PARAMETERS.values() else ""
            table.add_column(title, justify="right", no_wrap=True, style=style)
        for row in cells:
            table.add_row(*(row[title] for title in titles))
        return table

    def _list_cells(self, row: TrialRow) -> dict[str, Text]:
        """Returns a row's cells by the titles of their columns."""
        gain = row.best - self.progress.bar
        return {
            "trial": Text(str(row.number)),
            "state": Text(row.state, style={"running": "cyan", "failed": "red"}.get(row.state, "")),
            "epoch": Text(f"{row.epoch}/{self.progress.max_epochs}"),
            self.progress.objective.label: Text(_format_score(row.value)),
            "trained": Text("" if row.parameters is None else f"{row.parameters:,}"),
            "best": Text(_format_score(row.best)),
            "vs zero-shot": Text(f"{gain:+.3f}" if gain == gain else "", style="green" if gain > 0 else "red"),
            **{title: Text(spell_value(row.config.get(name, ""), ".2g")) for name, title in SHOWN_PARAMETERS.items()},
        }


def _rank(row: TrialRow) -> tuple[bool, float]:
    """Sorts the best first; without a score, what runs is on top, and what has ended is last."""
    if row.best == row.best:
        return False, -row.best
    return row.ended is not None, -math.inf


def _choose_columns(rows: Sequence[Mapping[str, Text]], score_titles: Sequence[str], width: int) -> list[str]:
    """Returns the titles whose columns fit the width; parameters that do not fit are left out."""
    chosen, used = list(score_titles), -_GAP
    used += sum(max(len(title), *(len(row[title]) for row in rows), 0) + _GAP for title in score_titles)
    for title in SHOWN_PARAMETERS.values():
        widest = max((len(row[title]) for row in rows), default=0)
        if not widest:
            continue  # this search does not vary it
        needed = max(len(title), widest) + _GAP
        if used + needed <= width:  # a squeezed column would be unreadable
            chosen.append(title)
            used += needed
    return chosen


def _format_score(value: float) -> str:
    return f"{value:.3f}" if value == value else ""

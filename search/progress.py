"""The live table of trials, and how long the search may still take."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from ray.tune import Callback
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from search.bar import RECORDED_BAR

# In the order in which they get room.
SHOWN_PARAMETERS = {
    "optim.lr": "lr",
    "loss.focal": "focal",
    "loss.dice": "dice",
    "adapter.rank": "rank",
    "optim.batch_size": "batch",
    "augment.kind": "augment",
    "adapter.targets": "targets",
}
SCORE_COLUMNS_WIDTH = 56


@dataclass
class TrialRow:
    """What the table knows of one trial; times are in seconds of ``time.monotonic``."""

    number: int
    config: dict[str, Any]
    started: float
    label: str = ""
    epoch: int = 0
    dice: float = float("nan")
    best: float = float("nan")
    state: str = "running"
    ended: float | None = None


@dataclass
class SearchProgress:
    """Rows of all trials that have begun, and the plan they belong to.

    Attributes:
        num_trials: Trials in all.
        max_epochs: Epochs of a whole trial.
        concurrent: Trials at once.
        zeroshot_dice: The bar, on validation.
        started: When the first trial could begin.
        time_budget_s: Seconds that trials may take; None for no limit.
    """

    num_trials: int
    max_epochs: int
    concurrent: int
    zeroshot_dice: float
    started: float
    time_budget_s: float | None = None
    rows: dict[str, TrialRow] = field(default_factory=dict)

    def estimate_seconds_left(self, now: float) -> float | None:
        """Estimates the time left from the trials that ended, early or not; None before there is anything to go by."""
        ended = [row for row in self.rows.values() if row.ended is not None]
        running = [row for row in self.rows.values() if row.ended is None]
        if ended:
            mean = sum(row.ended - row.started for row in ended if row.ended is not None) / len(ended)
        else:
            paces = [(now - row.started) / row.epoch for row in running if row.epoch]
            if not paces:
                return None
            mean = sum(paces) / len(paces) * self.max_epochs
        waiting = self.num_trials - len(self.rows)
        rest = sum(max(0.0, mean - (now - row.started)) for row in running)
        left = (rest + waiting * mean) / max(1, self.concurrent)
        if self.time_budget_s is not None:
            left = min(left, max(0.0, self.time_budget_s - (now - self.started)))
        return left

    @property
    def best(self) -> TrialRow | None:
        """The row of the highest validation Dice so far."""
        scored = [row for row in self.rows.values() if row.best == row.best]
        return max(scored, key=lambda row: row.best, default=None)


class ProgressCallback(Callback):
    """Shows the trials while they run: a table that redraws itself on a terminal, else a line an ended trial."""

    def __init__(self, progress: SearchProgress, heading: str, console: Console) -> None:
        """Takes what to show.

        Args:
            progress: Filled by this callback.
            heading: A line above the table: model, data, protocol.
            console: Where to; on no terminal, lines are printed.
        """
        self.progress, self.heading, self.console = progress, heading, console
        self._live: Live | None = None

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles callbacks with its state; a screen cannot be pickled and is opened anew.
        return {"progress": self.progress, "heading": self.heading}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, console=Console(stderr=True), _live=None)

    def setup(self, *args: Any, **kwargs: Any) -> None:
        """Opens the live table; called once, when the search starts."""
        if self.console.is_terminal:
            self._live = Live(self.render(), console=self.console, refresh_per_second=2, transient=True)
            self._live.start()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Adds a row."""
        rows = self.progress.rows
        if trial.trial_id not in rows:
            rows[trial.trial_id] = TrialRow(len(rows), dict(trial.config), time.monotonic())
        self._redraw()

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Updates the trial's row after an epoch."""
        row = self.progress.rows.get(trial.trial_id)
        if row is None or "val_dice" not in result:
            return
        row.epoch, row.dice = result["training_iteration"], result["val_dice"]
        row.best = row.dice if row.best != row.best else max(row.best, row.dice)
        self._redraw()

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Marks the row as complete, or as stopped before its last epoch."""
        row = self.progress.rows[trial.trial_id]
        self._end(row, "complete" if row.epoch >= self.progress.max_epochs else "stopped")

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Marks the row as failed."""
        self._end(self.progress.rows[trial.trial_id], "failed")

    def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
        """Closes the live table and leaves the last one on the screen."""
        self.close()
        self.console.print(self.render())

    def close(self) -> None:
        """Gives the screen back."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _end(self, row: TrialRow, state: str) -> None:
        row.state, row.ended = state, time.monotonic()
        self._redraw()
        if self._live is None:
            gain = row.best - self.progress.zeroshot_dice
            done = sum(1 for each in self.progress.rows.values() if each.ended is not None)
            self.console.print(
                f"trial {row.number:3d} {state:8s} epoch {row.epoch:2d}/{self.progress.max_epochs}  "
                f"best val Dice {row.best:.3f} ({gain:+.3f})  {done}/{self.progress.num_trials} done, "
                f"{self.describe_time_left()}",
                highlight=False,
                soft_wrap=True,
            )

    def _redraw(self) -> None:
        if self._live is not None:
            self._live.update(self.render())

    def describe_time_left(self) -> str:
        """Returns ``about 2 min 10 s left``."""
        seconds = self.progress.estimate_seconds_left(time.monotonic())
        return "estimating time left" if seconds is None else f"about {format_seconds(seconds)} left"

    def render(self) -> Group:
        """Returns heading, table and the line below it."""
        progress = self.progress
        table = Table(show_edge=False, pad_edge=False, header_style="bold")
        for title in ("trial", "state", "epoch", "val Dice", "best", "vs zero-shot"):
            table.add_column(title, justify="right", no_wrap=True)
        shown = self._choose_parameters()
        for name in shown:
            table.add_column(SHOWN_PARAMETERS[name], justify="right", no_wrap=True, style="dim")
        # The best first: a long search does not fit a screen, and these are the rows that matter.
        rows = sorted(progress.rows.values(), key=lambda row: -row.best if row.best == row.best else 9.0)
        for row in rows[: max(5, self.console.size.height - 8)]:
            gain = row.best - progress.zeroshot_dice
            table.add_row(
                f"{row.number}",
                Text(row.state, style={"running": "cyan", "failed": "red"}.get(row.state, "")),
                f"{row.epoch}/{progress.max_epochs}",
                _format_dice(row.dice),
                _format_dice(row.best),
                Text(f"{gain:+.3f}" if gain == gain else "", style="green" if gain > 0 else "red"),
                *(_format_value(row.config.get(name, "")) for name in shown),
            )
        ended = sum(1 for row in progress.rows.values() if row.ended is not None)
        below = (
            f"bar: zero-shot val Dice {progress.zeroshot_dice:.3f} (measured here); "
            f"{RECORDED_BAR.overall_dice} is recorded on the BCSS test set\n"
            f"{ended}/{progress.num_trials} trials ended"
            + ("" if ended >= progress.num_trials else f", {self.describe_time_left()}")
        )
        return Group(Text(self.heading, style="bold"), table, Text(below))


    def _choose_parameters(self) -> list[str]:
        """Names the parameters whose columns fit beside the scores: a squeezed column tells nothing."""
        room, shown = self.console.width - SCORE_COLUMNS_WIDTH, []
        for name, title in SHOWN_PARAMETERS.items():
            cells = [_format_value(row.config[name]) for row in self.progress.rows.values() if name in row.config]
            width = 3 + max([len(title), *map(len, cells)])
            if cells and width <= room:
                shown.append(name)
                room -= width
        return shown


def format_seconds(seconds: float) -> str:
    """Returns ``45 s``, ``2 min 10 s`` or ``3 h 5 min``."""
    whole = int(round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _format_dice(value: float) -> str:
    return f"{value:.3f}" if value == value else ""


def _format_value(value: object) -> str:
    return f"{value:.2g}" if isinstance(value, float) else str(value)

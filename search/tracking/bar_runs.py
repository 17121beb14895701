"""The bars of a search: what a trial is compared with, and their runs, lines among the trials' curves in the charts."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from search.mlflow_pages.notes import NOTE_TAG, RUN_KIND_TAG, ZEROSHOT_NOTE, describe_recorded_bar
from search.space.objective import DICE
from search.space.recorded_experiments import RECORDED_BAR
from search.tracking.tracker import Tracker
from search.tracking.trial_runs import SearchRuns

assert RECORDED_BAR.overall_dice is not None and RECORDED_BAR.overall_iou is not None
RECORDED_DICE, RECORDED_IOU = RECORDED_BAR.overall_dice, RECORDED_BAR.overall_iou


@dataclass(frozen=True)
class Bars:
    """What a trial's figures are compared with: zero-shot's `val_dice` and, for named classes, `val_dice/<class>`."""

    zeroshot: Mapping[str, float]
    class_names: tuple[str, ...] = ()

    def compare(self, result: Mapping[str, Any]) -> dict[str, float]:
        """Returns the bars, and a result's differences from zero-shot, overall and by class."""
        figures = {"bar_recorded": RECORDED_DICE, "bar_zeroshot": self.zeroshot[DICE]}
        for suffix in ("", *(f"/{name}" for name in self.class_names)):
            name = f"{DICE}{suffix}"
            if name in result and name in self.zeroshot:
                figures[f"dice_minus_zeroshot{suffix}"] = float(result[name]) - self.zeroshot[name]
        return figures

    def compare_best(self, dice: float | None) -> dict[str, float]:
        """Returns the bars and the best validation Dice so far; None where no trial has one yet."""
        bar = self.zeroshot[DICE]
        best = {} if dice is None else {"best_val_dice": dice, "best_dice_minus_zeroshot": dice - bar}
        return {"bar_recorded": RECORDED_DICE, "bar_zeroshot": bar, **best}


@dataclass(frozen=True)
class RecordedBar:
    """The recorded zero-shot figure as a run; `bar_recorded` is constant up to step `max_epochs`."""

    max_epochs: int

    def deliver(self, runs: SearchRuns, time_ms: int) -> None:
        tracker, bar = runs.tracker, RECORDED_BAR
        note = describe_recorded_bar(bar)
        tags = {"dataset": bar.dataset, "protocol": bar.protocol, "split": bar.split, NOTE_TAG: note}
        run_id = _find_or_start(runs, "recorded-zeroshot", "recorded", tags)
        log_constants(tracker, run_id, {"test_dice": RECORDED_DICE, "test_iou": RECORDED_IOU}, last_step=0)
        log_constants(tracker, run_id, {"bar_recorded": RECORDED_DICE}, self.max_epochs)
        tracker.finish(run_id)


@dataclass(frozen=True)
class ZeroshotBar:
    """Zero-shot as measured in this search, as a run whose figures are constant up to step `max_epochs`.

    The figures are `val_dice`, `val_iou`, `val_dice/<class>` and whatever else was measured.

    Raises:
        ValueError: If `val_dice` is missing.
    """

    figures: dict[str, float]
    tags: dict[str, Any]
    max_epochs: int

    def __post_init__(self) -> None:
        if DICE not in self.figures:
            raise ValueError(f"figures.{DICE} is missing")

    def deliver(self, runs: SearchRuns, time_ms: int) -> None:
        run_id = _find_or_start(runs, "zeroshot", "zeroshot", {NOTE_TAG: ZEROSHOT_NOTE, **self.tags})
        figures = {**self.figures, "bar_zeroshot": self.figures[DICE]}
        log_constants(runs.tracker, run_id, figures, self.max_epochs)
        runs.tracker.finish(run_id)


def _find_or_start(runs: SearchRuns, name: str, run_kind: str, tags: Mapping[str, str]) -> str:
    found = runs.tracker.find_child(runs.parent, {RUN_KIND_TAG: run_kind})
    return found or runs.tracker.start_child(runs.parent, name, run_kind, tags)


def log_constants(tracker: Tracker, run_id: str, figures: Mapping[str, float], last_step: int) -> None:
    """Logs figures at step 0 and at the last one, which is a line among the trials' curves."""
    # The run's own start is the timestamp: a repeated call writes the same rows, not more of them.
    start_ms = tracker.get_run(run_id).info.start_time
    for step in sorted({0, last_step}):
        tracker.log_metrics(run_id, figures, step, start_ms)

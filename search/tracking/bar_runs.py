"""The bars of a search as runs of their own, so that its charts draw them among the trials' curves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from search.space.recorded_experiments import RECORDED_BAR
from search.tracking.pages import NOTE_TAG, RUN_KIND_TAG, ZEROSHOT_NOTE, describe_recorded_bar

if TYPE_CHECKING:
    from search.tracking.tracker import Tracker


def log_recorded_bar(tracker: Tracker, parent: str, max_epochs: int = 1) -> str:
    """Logs the recorded zero-shot figure as a run of its own and returns its run id.

    A second call for the same parent, as after a resume, finds the first one's run.

    Args:
        tracker: The search's experiment.
        parent: Run id of the search.
        max_epochs: Last step of the constant series `bar_recorded`, so that charts draw a line.

    Raises:
        TrackingError: See :class:`~search.tracking.tracker.Tracker`.
    """
    bar = RECORDED_BAR
    assert bar.overall_dice is not None and bar.overall_iou is not None
    tags = {
        "dataset": bar.dataset,
        "protocol": bar.protocol,
        "split": bar.split,
        NOTE_TAG: describe_recorded_bar(bar),
    }
    run_id = _find_or_start(tracker, parent, "recorded-zeroshot", "recorded", tags)
    log_constants(tracker, run_id, {"test_dice": bar.overall_dice, "test_iou": bar.overall_iou}, last_step=0)
    log_constants(tracker, run_id, {"bar_recorded": bar.overall_dice}, max_epochs)
    tracker.finish(run_id)
    return run_id


def log_zeroshot_bar(
    tracker: Tracker,
    parent: str,
    figures: Mapping[str, float],
    tags: Mapping[str, str],
    max_epochs: int = 1,
) -> str:
    """Logs the zero-shot figures measured in this search as a run of its own and returns its run id.

    The figures are constant series over the trials' epochs: in the chart of `val_dice` the bar is a
    horizontal line among the trials' curves.

    Args:
        tracker: The search's experiment.
        parent: Run id of the search.
        figures: `val_dice`, `val_iou`, `val_dice/<class>` and whatever else was measured.
        tags: Data, protocol and the like.
        max_epochs: Last step of the constant series.

    Raises:
        TrackingError: See :class:`~search.tracking.tracker.Tracker`.
    """
    assert "val_dice" in figures, sorted(figures)
    run_id = _find_or_start(tracker, parent, "zeroshot", "zeroshot", {NOTE_TAG: ZEROSHOT_NOTE, **tags})
    log_constants(tracker, run_id, {**figures, "bar_zeroshot": figures["val_dice"]}, max_epochs)
    tracker.finish(run_id)
    return run_id


def _find_or_start(
    tracker: Tracker, parent: str, name: str, run_kind: str, tags: Mapping[str, str]
) -> str:
    found = tracker.find_child(parent, {RUN_KIND_TAG: run_kind})
    return found or tracker.start_child(parent, name, run_kind, tags)


def log_constants(tracker: Tracker, run_id: str, figures: Mapping[str, float], last_step: int) -> None:
    """Logs figures at step 0 and at the last one, which is a line among the trials' curves."""
    # The run's own start is the timestamp: a repeated call writes the same rows, not more of them.
    start_ms = tracker.read_start_ms(run_id)
    for step in sorted({0, last_step}):
        tracker.log_metrics(run_id, figures, step, start_ms)

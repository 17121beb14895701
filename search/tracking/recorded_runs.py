"""The experiment log as MLflow runs of an experiment of its own, each with the protocol of its figure."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

from search.mlflow_pages.notes import (
    NOTE_TAG,
    RECORDED_NOTE,
    RECORDED_VIEW,
    RECORDED_VIEW_TAG,
    RUN_KIND_TAG,
    describe_recorded_experiment,
)
from search.run_folder.origin import Origin
from search.space.recorded_experiments import RECORDED_BARS, RECORDED_EXPERIMENTS, RecordedExperiment
from search.tracking.errors import translate_errors
from search.tracking.store import ExperimentDeleted, take_turns
from search.tracking.tracker import Tracker, now_ms
from trainables.protocol.spec import PROTOCOLS

if TYPE_CHECKING:
    from mlflow.entities import Run

RECORDED_EXPERIMENT = "recorded"
RECORDED_NAME_TAG = "recorded_name"
PROTOCOL_ID_TAG = "protocol_id"

logger = logging.getLogger(__name__)


def log_recorded_experiments(tracker: Tracker) -> str:
    """Lists the recorded experiments, and zero-shot's bar under each protocol, as runs of experiment `recorded`.

    Runs that are there are found by their tag `recorded_name`, so a second call adds nothing; a run that an earlier
    call left unfinished is completed. Processes that share a sqlite store take turns.

    An experiment `recorded` that somebody has deleted stays so: that is logged, not raised.

    Returns:
        MLflow's id of the experiment `recorded`, a deleted one's too.

    Raises:
        TrackingError: The store cannot be reached or refuses.
    """
    try:
        recorded = tracker.open_experiment(
            RECORDED_EXPERIMENT, {NOTE_TAG: RECORDED_NOTE, RECORDED_VIEW_TAG: RECORDED_VIEW}
        )
    except ExperimentDeleted as error:
        logger.warning("MLflow: %s; the recorded experiments are not listed", error)
        return error.experiment_id
    rows = order_rows({row.name: row for row in (*RECORDED_EXPERIMENTS, *RECORDED_BARS)}.values())
    start_ms = now_ms()
    with translate_errors("list the recorded experiments"), take_turns(recorded.uri):
        oldest_last = reversed(recorded.find_runs({RUN_KIND_TAG: "recorded"}))
        found = {run.data.tags.get(RECORDED_NAME_TAG): run for run in oldest_last}
        for index, row in enumerate(rows):
            # MLflow shows the youngest first: a millisecond each keeps the order of the rows.
            _log_row(recorded, row, found.get(row.name), start_ms - index)
    return recorded.experiment_id


def _log_row(tracker: Tracker, row: RecordedExperiment, run: Run | None, start_ms: int) -> None:
    """Writes what the run of a row lacks; opens one where there is none."""
    tags = list_tags(row)
    protocol_id = tags.get(PROTOCOL_ID_TAG)
    if run is None or run.info.status != "FINISHED":
        run_id = run.info.run_id if run else tracker.start_run(row.name, "recorded", tags, start_ms)
        time_ms = run.info.start_time if run else start_ms
        tracker.log_params(run_id, {"protocol": row.protocol, **row.parameters})
        tracker.log_metrics(run_id, list_metrics(row), step=0, timestamp_ms=time_ms)
        tracker.finish(run_id, timestamp_ms=time_ms)
    elif protocol_id and run.data.tags.get(PROTOCOL_ID_TAG) != protocol_id:
        # A protocol that gained a field has another id than when the run was written.
        tracker.set_tags(run.info.run_id, {PROTOCOL_ID_TAG: protocol_id})


def order_rows(rows: Iterable[RecordedExperiment]) -> list[RecordedExperiment]:
    """Returns the rows protocol by protocol, its bar first, then by Dice; unknown protocols come last."""
    protocols = [bar.protocol for bar in RECORDED_BARS]

    def rank(row: RecordedExperiment) -> tuple[int, bool, float]:
        known = row.protocol in protocols
        place = protocols.index(row.protocol) if known else len(protocols)
        return place, row not in RECORDED_BARS, -(row.overall_dice or 0.0)

    return sorted(rows, key=rank)


def list_metrics(row: RecordedExperiment) -> dict[str, float]:
    """Returns what the log holds of Dice and IoU, and the gain over zero-shot under the same protocol."""
    figures = {
        "test_dice": row.overall_dice,
        "test_iou": row.overall_iou,
        "gain_over_zeroshot": row.compute_gain(),
        **{f"test_dice/{name}": dice for name, dice in row.per_class.items()},
    }
    return {name: figure for name, figure in figures.items() if figure is not None}


def list_tags(row: RecordedExperiment) -> dict[str, str]:
    """Returns the tags of a row's run besides its kind; `protocol_id` where the protocol is one of ours."""
    protocol = PROTOCOLS.get(row.protocol)
    return {
        **Origin(row.protocol, protocol.id if protocol else "").to_tags(),
        RECORDED_NAME_TAG: row.name,
        "dataset": row.dataset,
        "split": row.split,
        NOTE_TAG: describe_recorded_experiment(row),
    }

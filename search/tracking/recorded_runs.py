"""The experiment log as MLflow runs of an experiment of its own, each with the protocol of its figure."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable

from search.run_folder.origin import Origin
from search.space.recorded_experiments import RECORDED_BARS, RECORDED_EXPERIMENTS, RecordedExperiment
from search.tracking.errors import TrackingError, TrackingUnavailable
from search.tracking.pages import (
    NOTE_TAG,
    RECORDED_NOTE,
    RECORDED_VIEW,
    RECORDED_VIEW_TAG,
    RUN_KIND_TAG,
    describe_recorded_experiment,
)
from search.tracking.store import ExperimentDeleted
from search.tracking.tracker import FoundRun, Tracker
from trainables.protocol.spec import PROTOCOLS

RECORDED_EXPERIMENT = "recorded"
RECORDED_NAME_TAG = "recorded_name"
PROTOCOL_ID_TAG = "protocol_id"

# A process that begins at the same moment may delete a run as a double, or write the same parameter first:
# MLflow refuses us then, and has what we wanted when we look again.
_N_TRIES = 6

logger = logging.getLogger(__name__)


def log_recorded_experiments(tracker: Tracker) -> str:
    """Lists the recorded experiments, and zero-shot's bar under each protocol, as runs of experiment `recorded`.

    Runs that are there are found by their tag `recorded_name` and left as they are, so a second call adds
    nothing; a run that an earlier call left unfinished is completed. Of two processes that begin at once on a
    new store, both may open a run for the same row; each then deletes all but the oldest one of a row, and
    one that was refused for it looks again.

    An experiment `recorded` that somebody has deleted stays so: that is logged, not raised.

    Args:
        tracker: Any experiment of the store that shall hold them.

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
    refusal = None
    for _ in range(_N_TRIES):
        if (refusal := _list(recorded, rows)) is None:
            return recorded.experiment_id
    assert refusal is not None
    raise refusal


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


def _list(tracker: Tracker, rows: list[RecordedExperiment]) -> TrackingError | None:
    """Completes every row's run that MLflow lets us; returns the last refusal."""
    refusal: TrackingError | None = None
    for row, run in zip(rows, _find_or_open(tracker, rows), strict=True):
        try:
            if run is not None:
                _complete(tracker, run, row)
        except TrackingUnavailable:
            raise
        except TrackingError as error:
            refusal = error
    return refusal


def _find_or_open(tracker: Tracker, rows: list[RecordedExperiment]) -> list[FoundRun | None]:
    """Returns the rows' runs; None for one that another process deleted meanwhile."""
    found = _find_by_name(tracker)
    missing = [row for row in rows if row.name not in found]
    if missing:
        # MLflow shows the youngest first: a millisecond each keeps the order of the rows.
        start_ms = int(time.time() * 1000)
        for row in missing:
            tags = list_tags(row)
            tracker.start_run(row.name, "recorded", tags, timestamp_ms=start_ms - rows.index(row))
        found = _find_by_name(tracker)
        for double in [run for runs in found.values() for run in runs[1:]]:
            tracker.delete(double.run_id)
    return [found[row.name][0] if row.name in found else None for row in rows]


def _find_by_name(tracker: Tracker) -> dict[str, list[FoundRun]]:
    """Returns the recorded runs by name, the oldest of a name first."""
    found: dict[str, list[FoundRun]] = {}
    for run in sorted(tracker.find_runs({RUN_KIND_TAG: "recorded"}), key=lambda run: (run.start_ms, run.run_id)):
        if RECORDED_NAME_TAG in run.tags:
            found.setdefault(run.tags[RECORDED_NAME_TAG], []).append(run)
    return found


def _complete(tracker: Tracker, run: FoundRun, row: RecordedExperiment) -> None:
    """Writes what an opened run lacks; a repetition, by another process too, changes nothing."""
    tags = list_tags(row)
    if run.status != "FINISHED":
        tracker.log_params(run.run_id, {"protocol": row.protocol, **row.parameters})
        tracker.log_metrics(run.run_id, list_metrics(row), step=0, timestamp_ms=run.start_ms)
        tracker.finish(run.run_id, timestamp_ms=run.start_ms)
    elif PROTOCOL_ID_TAG in tags and run.tags.get(PROTOCOL_ID_TAG) != tags[PROTOCOL_ID_TAG]:
        # A protocol that gained a field has another id than when the run was written.
        tracker.set_tags(run.run_id, {PROTOCOL_ID_TAG: tags[PROTOCOL_ID_TAG]})

"""Records of a search's own run, and of the runs beside its trials, as they wait in an outbox and reach MLflow."""

from __future__ import annotations

from pathlib import Path

from search.bar_runs import log_recorded_bar, log_zeroshot_bar
from search.outbox import Record
from search.recorded_runs import log_recorded_experiments
from search.tracking import Tracker
from search.tracking_errors import TrackingError
from search.trial_runs import TRIAL_ID_TAG


def deliver_search_record(tracker: Tracker, parent: str, record: Record) -> None:
    """Does one record's work in MLflow; a repetition changes nothing.

    Args:
        tracker: The search's experiment.
        parent: Run id of the search.
        record: Its `event` names the work, `time_ms` the time; with a `trial_id` it is meant for that trial's run.

    Raises:
        TrackingError: MLflow refuses it, or is out of reach; see :class:`~search.tracking.Tracker`.
    """
    run_id = parent
    if "trial_id" in record:
        found = tracker.find_child(parent, {TRIAL_ID_TAG: record["trial_id"]})
        if found is None:
            raise TrackingError(f"trial {record['trial_id']} has no run")
        run_id = found
    event = record["event"]
    if event == "params":
        tracker.log_params(run_id, record["params"])
    elif event == "metrics":
        tracker.log_metrics(run_id, record["metrics"], record["step"], record["time_ms"])
    elif event == "tags":
        tracker.set_tags(run_id, record["tags"])
    elif event == "text":
        tracker.log_text(run_id, record["text"], record["file"])
    elif event == "artifact":
        tracker.log_artifact(run_id, Path(record["path"]), record["into"])
    elif event == "recorded bar":
        log_recorded_bar(tracker, parent, record["max_epochs"])
    elif event == "zero-shot bar":
        log_zeroshot_bar(tracker, parent, record["figures"], record["tags"], record["max_epochs"])
    elif event == "recorded experiments":
        log_recorded_experiments(tracker)
    else:
        assert event == "finish", event
        tracker.finish(run_id, timestamp_ms=record["time_ms"])

"""Records of a search's own run, and of the runs beside its trials, as they wait in an outbox and reach MLflow."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from search.space.objective import DICE
from search.tracking.bar_runs import log_recorded_bar, log_zeroshot_bar
from search.tracking.errors import TrackingError
from search.tracking.outbox import Record
from search.tracking.recorded_runs import log_recorded_experiments
from search.tracking.tracker import Tracker
from search.tracking.trial_runs import TRIAL_ID_TAG
from trainables.files.json_reader import build_record, list_faults

Contents = Mapping[str, Mapping[str, Any]]

# What the records of each event hold, beside `event` and `time_ms`, and perhaps a `trial_id`.
_CONTENTS: Contents = {
    "params": {"params": dict[str, Any]},
    "metrics": {"metrics": dict[str, float], "step": int},
    "tags": {"tags": dict[str, Any]},
    "text": {"text": str, "file": str},
    "artifact": {"path": str, "into": str | None},
    "recorded bar": {"max_epochs": int},
    "zero-shot bar": {"figures": dict[str, float], "tags": dict[str, Any], "max_epochs": int},
    "recorded experiments": {},
    "finish": {},
}


def check_record(record: Record, contents: Contents) -> None:
    """Checks that a record is whole, lest a line that someone or a power cut has changed be tried for ever.

    Args:
        record: As its file has it.
        contents: The types of what each known event's records hold.

    Raises:
        TrackingError: If it is not.
    """
    event = record.get("event")
    if not isinstance(event, str) or event not in contents:
        raise TrackingError(f"no record: its event is {event!r}")
    trial = {"trial_id": str} if "trial_id" in record else {}
    for key, hint in {"time_ms": int, **trial, **contents[event]}.items():
        try:
            build_record(record[key], hint)
        except KeyError as error:
            raise TrackingError(f"no whole record of the event {event!r}: {key} is missing") from error
        except ValidationError as error:
            faults = "; ".join(list_faults(error))
            raise TrackingError(f"no whole record of the event {event!r}: {key} {faults}") from error


def deliver_search_record(tracker: Tracker, parent: str, folder: Path, record: Record) -> None:
    """Does one record's work in MLflow; a repetition changes nothing.

    Args:
        tracker: The search's experiment.
        parent: Run id of the search.
        folder: The search's; no file outside it is stored.
        record: Its `event` names the work, `time_ms` the time; with a `trial_id` it is meant for that trial's run.

    Raises:
        TrackingError: It is no whole record, names a file outside the folder, or MLflow refuses it or is out of
            reach; see :class:`~search.tracking.tracker.Tracker`.
    """
    check_record(record, _CONTENTS)
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
        # Written anew with a later time, MLflow would take the same figures for further ones.
        new = tracker.list_new_metrics(run_id, record["metrics"], record["step"])
        tracker.log_metrics(run_id, new, record["step"], record["time_ms"])
    elif event == "tags":
        tracker.set_tags(run_id, record["tags"])
    elif event == "text":
        tracker.log_text(run_id, record["text"], _confine_name(record["file"]))
    elif event == "artifact":
        into = record["into"]
        tracker.log_artifact(run_id, _confine(record["path"], folder), into and _confine_name(into))
    elif event == "recorded bar":
        log_recorded_bar(tracker, parent, record["max_epochs"])
    elif event == "zero-shot bar":
        if DICE not in record["figures"]:
            raise TrackingError(f"no whole record of the event {event!r}: figures.{DICE} is missing")
        log_zeroshot_bar(tracker, parent, record["figures"], record["tags"], record["max_epochs"])
    elif event == "recorded experiments":
        log_recorded_experiments(tracker)
    else:
        assert event == "finish", event
        tracker.finish(run_id, timestamp_ms=record["time_ms"])


def _confine(path: str, folder: Path) -> Path:
    """Returns a file's path if it lies in the search's folder, by whatever links."""
    if "\0" in path or not Path(path).resolve().is_relative_to(folder.resolve()):
        raise TrackingError(f"{path!r} lies outside the search's folder {folder} and is not stored")
    return Path(path)


def _confine_name(name: str) -> str:
    """Returns a name among a run's artifacts if it leads nowhere else."""
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise TrackingError(f"{name!r} is no name of an artifact")
    return name

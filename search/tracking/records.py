"""What a search logs, a class for each event: a record is a line of a queue on disk, and delivers itself to MLflow."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from pydantic import ValidationError

from search.mlflow_pages.run_names import add_end
from search.tracking.bar_runs import RecordedBar, ZeroshotBar
from search.tracking.errors import TrackingError
from search.tracking.limits import confine_name, confine_path
from search.tracking.page_records import Choice, Data, Model, Pictures, Table, View
from search.tracking.recorded_runs import log_recorded_experiments
from search.tracking.tracker import Dataset, RunStatus
from search.tracking.trial_runs import SearchRuns, TrialRun
from trainables.context import FAILURE
from trainables.files.json_reader import build_record, list_faults


class Record(Protocol):
    """A frozen data class whose fields JSON can hold."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def deliver(self, runs: SearchRuns, time_ms: int) -> None:
        """Writes what happened at a time, in milliseconds since 1970, to MLflow; a repetition changes nothing.

        Raises:
            TrackingError: MLflow refuses it, or is out of reach (:class:`~search.tracking.errors.TrackingUnavailable`).
        """


@dataclass(frozen=True)
class Params:
    """Parameters of the search's run."""

    params: dict[str, Any]

    def deliver(self, runs: SearchRuns, time_ms: int) -> None:
        runs.tracker.log_params(runs.parent, self.params)


@dataclass(frozen=True)
class Metrics:
    """Metrics of the search's run, or of a trial's, at one step."""

    metrics: dict[str, float]
    step: int
    trial_id: str | None = None

    def deliver(self, runs: SearchRuns, time_ms: int) -> None:
        metrics = self.metrics
        if self.trial_id is None:
            # Written anew with a later time, MLflow would take the same figures for further ones.
            metrics = runs.tracker.list_new_metrics(runs.parent, metrics, self.step)
        runs.tracker.log_metrics(runs.find(self.trial_id), metrics, self.step, time_ms)


@dataclass(frozen=True)
class Tags:
    """Tags of the search's run or of a trial's."""

    tags: dict[str, Any]
    trial_id: str | None = None

    def deliver(self, runs: SearchRuns, time_ms: int) -> None:
        runs.tracker.set_tags(runs.find(self.trial_id), self.tags)


@dataclass(frozen=True)
class Text:
    """A text among the artifacts of the search's run."""

    text: str
    file: str

    def deliver(self, runs: SearchRuns, time_ms: int) -> None:
        runs.tracker.log_text(runs.parent, self.text, confine_name(self.file))


@dataclass(frozen=True)
class Artifact:
    """A file or folder of the search's folder, for a folder `into` of the artifacts of its run or of a trial's."""

    path: str
    into: str | None = None
    trial_id: str | None = None

    def deliver(self, runs: SearchRuns, time_ms: int) -> None:
        path = confine_path(self.path, runs.folder)
        into = None if self.into is None else confine_name(self.into)
        runs.tracker.log_artifact(runs.find(self.trial_id), path, into)


@dataclass(frozen=True)
class RecordedExperiments:
    """The experiment log, as runs of an experiment of its own."""

    def deliver(self, runs: SearchRuns, time_ms: int) -> None:
        log_recorded_experiments(runs.tracker)


@dataclass(frozen=True)
class TrialStart:
    """A trial's run, with its tags and parameters."""

    trial_id: str
    name: str
    run_kind: str
    tags: dict[str, Any]
    params: dict[str, Any]
    dataset: Dataset | None = None

    def deliver(self, runs: SearchRuns, time_ms: int) -> None:
        run = runs.by_trial.setdefault(self.trial_id, TrialRun())
        if run.run_id is None:
            # A create whose answer was lost has left a run: find it before making another.
            run.run_id = runs.search(self.trial_id) or runs.tracker.start_child(
                runs.parent, self.name, self.run_kind, self.tags, timestamp_ms=time_ms
            )
        runs.tracker.log_params(run.run_id, self.params)
        if self.dataset:
            runs.tracker.log_dataset(run.run_id, self.dataset)


@dataclass(frozen=True)
class Progress:
    """What the search's run shows once a trial has ended; the step is the number of trials ended."""

    trial_id: str
    metrics: dict[str, float]
    step: int

    def deliver(self, runs: SearchRuns, time_ms: int) -> None:
        runs.tracker.log_metrics(runs.parent, self.metrics, self.step, time_ms)


@dataclass(frozen=True)
class Reopening:
    """A trial that goes on after a stop."""

    trial_id: str

    def deliver(self, runs: SearchRuns, time_ms: int) -> None:
        run_id = runs.find(self.trial_id)
        runs.tracker.reopen(run_id)
        runs.tracker.rename(run_id, lambda name: add_end(name, ""))
        for tag in (FAILURE, "stopped"):  # of the last try
            runs.tracker.delete_tag(run_id, tag)


@dataclass(frozen=True)
class End:
    """The end of the search's run or of a trial's, with its last tags, and the last part of a trial's name."""

    status: RunStatus = "FINISHED"
    tags: dict[str, Any] = field(default_factory=dict)
    trial_id: str | None = None
    end: str = ""

    def deliver(self, runs: SearchRuns, time_ms: int) -> None:
        run_id = runs.find(self.trial_id)
        runs.tracker.set_tags(run_id, self.tags)
        if self.end:
            runs.tracker.rename(run_id, lambda name: add_end(name, self.end))
        runs.tracker.finish(run_id, self.status, time_ms)


# By the event that names them in their lines.
_CLASSES: dict[str, type[Any]] = {
    "params": Params,
    "metrics": Metrics,
    "tags": Tags,
    "text": Text,
    "artifact": Artifact,
    "recorded bar": RecordedBar,
    "zero-shot bar": ZeroshotBar,
    "recorded experiments": RecordedExperiments,
    "start": TrialStart,
    "progress": Progress,
    "reopen": Reopening,
    "finish": End,
    "choice": Choice,
    "data": Data,
    "view": View,
    "table": Table,
    "pictures": Pictures,
    "model": Model,
}
_EVENTS = {each: event for event, each in _CLASSES.items()}


def to_line(record: Record, time_ms: int) -> dict[str, Any]:
    """Returns a record as a queue's line holds it."""
    fields = dataclasses.asdict(record)
    if fields.get("trial_id", "") is None:
        del fields["trial_id"]
    return {"event": _EVENTS[type(record)], "time_ms": time_ms, **fields}


def read_line(line: Mapping[str, Any]) -> tuple[Record, int]:
    """Returns a line's record and its time in milliseconds since 1970.

    Raises:
        TrackingError: If the line is damaged: it is refused, not tried again for ever.
    """
    event = line.get("event")
    found = _CLASSES.get(event) if isinstance(event, str) else None
    if found is None:
        raise TrackingError(f"no record: its event is {event!r}")
    try:
        time_ms = build_record(line.get("time_ms"), int)
        record: Record = build_record(line, found, unknown="ignore")
    except ValidationError as error:
        raise TrackingError(f"no whole record of the event {event!r}: {'; '.join(list_faults(error))}") from error
    return record, time_ms

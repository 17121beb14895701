"""Writes and reads MLflow's runs, by its client alone: the fluent API's active run is global state.

The only module that loads mlflow, and it does so late, as the import costs seconds.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlparse

from search.cluster.deadline import call_within
from search.command_line.paths import hide_password
from search.errors import SearchError
from search.mlflow_pages.notes import EXPERIMENT_NOTE, NOTE_TAG, PARENT_TAG, RUN_KIND_TAG
from search.mlflow_pages.views import SEARCH_TAG
from search.tracking.errors import TrackingError, TrackingUnavailable, translate_errors
from search.tracking.limits import clean_name, fit_params, fit_tags, split_batches, split_finite
from search.tracking.store import (
    find_experiment,
    find_or_create_experiment,
    resolve_uri,
    set_environment_defaults,
    suggest_remedy,
    take_turns,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run


RunStatus = Literal["FINISHED", "FAILED", "KILLED"]

CONNECT_TIMEOUT_S, LOCAL_TIMEOUT_S = 12.0, 60.0
LATE_LOOKS_S = (0.0, 2.0, 4.0)  # pauses before looking for a run whose answer was lost
SAMPLE_S, SAMPLES_A_POINT = 10, 6  # a point a minute
UNKNOWN = "unknown"  # the commit of an installed package
_SOURCE = {"mlflow.source.name": "search.run", "mlflow.source.type": "LOCAL"}  # the UI's own column "Source"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Dataset:
    """A data set as MLflow's column `Dataset` names it: digest, at most 36 characters, where it lies, and counts."""

    name: str
    digest: str
    uri: str
    profile: dict[str, Any]


class Tracker:
    """Writes the runs of one MLflow experiment, of a store whose URI is absolute.

    Every method raises :class:`~search.tracking.errors.TrackingUnavailable` for an outage and
    :class:`~search.tracking.errors.TrackingError` for what MLflow will never accept. The same metrics written twice
    (same run, name, value, step and timestamp) are stored once on MLflow's SQL stores: a call can be repeated.
    """

    def __init__(self, uri: str, experiment_id: str) -> None:
        self.uri = uri
        self.experiment_id = experiment_id
        self._dropped: set[str] = set()  # metrics that were NaN or infinite
        self._client: MlflowClient | None = None

    @classmethod
    def connect(cls, experiment: str, default_uri: str = "") -> Tracker:
        """Opens the store, see :func:`~search.tracking.store.resolve_uri`, and finds or creates the experiment.

        Raises:
            SearchError: The store cannot be reached (after 12 s at most, for a server), cannot be used, or the
                experiment has been deleted there.
        """
        tracker, tags = cls(resolve_uri(default_uri), ""), {NOTE_TAG: EXPERIMENT_NOTE}
        # Making a sqlite store takes seconds of migrations on a slow disk: no deadline there.
        timeout_s = CONNECT_TIMEOUT_S if tracker._is_remote else None
        try:
            tracker.experiment_id = call_within(
                timeout_s, lambda: find_or_create_experiment(tracker.client, experiment, tags)
            )
        except (TrackingError, TimeoutError) as error:
            fix = suggest_remedy(tracker.uri, error)
            raise SearchError(
                f"MLflow's store {hide_password(tracker.uri)} cannot be used: {error}. Fix: {fix}"
            ) from error
        return tracker

    def look(self, experiment: str) -> None:
        """Opens the store and looks for the experiment, without making it.

        Raises:
            TrackingError: The store cannot be opened or read, or the experiment has been deleted there.
            TimeoutError: It does not answer within 12 s; a local one, on a busy machine, within a minute.
        """

        set_environment_defaults()
        import mlflow  # noqa: F401  (its seconds are not the store's)

        def read() -> None:
            client = self.client
            with translate_errors("read the store"):
                client.search_experiments(max_results=1)
                find_experiment(client, experiment)

        call_within(CONNECT_TIMEOUT_S if self._is_remote else LOCAL_TIMEOUT_S, read)

    @property
    def _is_remote(self) -> bool:
        return urlparse(self.uri).scheme in ("http", "https")

    @property
    def client(self) -> MlflowClient:
        """MLflow's client, made at first use, so that a tracker can be pickled."""
        if self._client is None:
            with translate_errors("open the store"):
                from mlflow import MlflowClient

                # Table migrations are no news, and failures are reported by this package itself.
                logging.getLogger("alembic").setLevel(logging.WARNING)
                logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
                with take_turns(self.uri):
                    self._client = MlflowClient(tracking_uri=self.uri)
        return self._client

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_client": None}

    def open_experiment(self, name: str, tags: Mapping[str, str]) -> Tracker:
        """Returns the tracker of another experiment of the same store, made with `tags` if it is new.

        Raises:
            ExperimentDeleted: The experiment is there, but deleted.
        """
        other = Tracker(self.uri, "")
        other._client = self.client
        other.experiment_id = find_or_create_experiment(self.client, name, tags)
        return other

    def start_run(
        self, name: str, run_kind: str, tags: Mapping[str, str] | None = None, timestamp_ms: int | None = None
    ) -> str:
        """Opens a run that begins now, or at a time in milliseconds, and returns its id; its kind becomes a tag."""
        start_ms = now_ms() if timestamp_ms is None else timestamp_ms
        all_tags = {**fit_tags(tags or {}), RUN_KIND_TAG: run_kind, **_SOURCE}
        if all_tags.get("git_commit", UNKNOWN) != UNKNOWN:
            all_tags["mlflow.source.git.commit"] = all_tags["git_commit"]  # the UI's own column "Version"
        try:
            with translate_errors("open a run"):
                run = self.client.create_run(self.experiment_id, start_ms, all_tags, run_name=name)
            return str(run.info.run_id)
        except TrackingUnavailable:
            # Perhaps only the answer was lost, or a busy server is still at work.
            for pause_s in LATE_LOOKS_S:
                time.sleep(pause_s)
                with translate_errors("search the runs"):
                    runs = self.client.search_runs([self.experiment_id], f"attributes.start_time = {start_ms}")
                for run in runs:
                    if run.info.run_name == name and all_tags.items() <= run.data.tags.items():
                        return str(run.info.run_id)
            raise

    def start_child(self, parent: str, name: str, run_kind: str, tags: Mapping[str, str], **time: int) -> str:
        """Opens a run nested in the run `parent`; see :meth:`start_run`."""
        return self.start_run(name, run_kind, {**tags, PARENT_TAG: parent, SEARCH_TAG: parent}, **time)

    def find_child(self, parent: str, tags: Mapping[str, str]) -> str | None:
        """Returns the run id of the parent's first child that carries these tags, or None."""
        found = self.find_runs({PARENT_TAG: parent, **tags}, max_results=1)
        return found[0].info.run_id if found else None

    def find_runs(self, tags: Mapping[str, str], max_results: int = 1000) -> list[Run]:
        """Returns the experiment's runs that carry these tags and are not deleted, oldest first."""
        query = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
        with translate_errors("search the runs"):
            order = ["attributes.start_time ASC"]
            return self.client.search_runs([self.experiment_id], query, max_results=max_results, order_by=order)

    def get_run(self, run_id: str) -> Run:
        """Returns a run as the store holds it, its status `RUNNING`, `FINISHED`, `FAILED` or `KILLED`."""
        with translate_errors("read the run"):
            return self.client.get_run(run_id)

    def read_last_step(self, run_id: str, metric: str) -> int:
        """Returns the last step at which a run has a metric; 0 where it has none."""
        with translate_errors("read the metric"):
            return max((entry.step for entry in self.client.get_metric_history(run_id, metric)), default=0)

    def log_params(self, run_id: str, params: Mapping[str, object]) -> None:
        """Logs parameters, which MLflow never lets change.

        Nested mappings become dotted names; values are cut at 6,000 characters.
        """
        from mlflow.entities import Param

        batch = [Param(key, value) for key, value in fit_params(params).items()]
        with translate_errors("log parameters"):
            for part in split_batches(batch):
                self.client.log_batch(run_id, params=part)

    def log_metrics(
        self, run_id: str, metrics: Mapping[str, float], step: int, timestamp_ms: int | None = None
    ) -> None:
        """Logs the metrics of one step in one request; NaN and infinite values are left out, with a warning.

        Characters that MLflow does not allow in a name become underscores.
        """
        from mlflow.entities import Metric

        time_ms = now_ms() if timestamp_ms is None else timestamp_ms
        finite, dropped = split_finite(metrics)
        for name in (name for name in dropped if name not in self._dropped):
            logger.warning("%s is %s at step %d: not sent to MLflow (warned once a metric)", name, dropped[name], step)
        self._dropped |= dropped.keys()
        batch = [Metric(name, value, time_ms, step) for name, value in finite.items()]
        if batch:
            with translate_errors("log metrics"):
                self.client.log_batch(run_id, metrics=batch)

    def list_new_metrics(self, run_id: str, metrics: Mapping[str, float], step: int) -> dict[str, float]:
        """Returns those metrics of a step that the run lacks there, or has with another value."""
        with translate_errors("read metrics"):
            names_there = self.client.get_run(run_id).data.metrics
            return {
                name: value
                for name, value in metrics.items()
                if clean_name(name) not in names_there or self._read_value(run_id, clean_name(name), step) != value
            }

    def _read_value(self, run_id: str, name: str, step: int) -> float | None:
        """Returns a metric's latest value at a step; None where it has none there."""
        points = [point for point in self.client.get_metric_history(run_id, name) if point.step == step]
        return float(max(points, key=lambda point: point.timestamp).value) if points else None

    def log_artifact(self, run_id: str, path: Path, artifact_path: str | None = None) -> None:
        """Stores a file, or a folder with all that is in it, among the run's artifacts."""
        with translate_errors(f"store {path.name}"):
            if path.is_dir():
                self.client.log_artifacts(run_id, str(path), artifact_path)
            else:
                self.client.log_artifact(run_id, str(path), artifact_path)

    def log_text(self, run_id: str, text: str, artifact_file: str) -> None:
        with translate_errors(f"store {artifact_file}"):
            self.client.log_text(run_id, text, artifact_file)

    def set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Sets tags, over earlier values; values are cut at 5,000 characters."""
        from mlflow.entities import RunTag

        batch = [RunTag(key, value) for key, value in fit_tags(tags).items()]
        with translate_errors("set tags"):
            for part in split_batches(batch):
                self.client.log_batch(run_id, tags=part)

    def rename(self, run_id: str, change: Callable[[str], str]) -> None:
        """Gives a run the name that ``change`` makes of its present one."""
        with translate_errors("rename the run"):
            name = str(self.client.get_run(run_id).info.run_name)
            if (new := change(name)) != name:
                self.client.update_run(run_id, name=new)

    def delete_tag(self, run_id: str, key: str) -> None:
        """Removes a tag of a run, if it has it."""
        with translate_errors("remove a tag"):
            if key in self.client.get_run(run_id).data.tags:
                self.client.delete_tag(run_id, key)

    def log_dataset(self, run_id: str, dataset: Dataset) -> None:
        """Says what data a run used; the same data are listed once. No pixel is read."""
        from mlflow import entities

        named = entities.Dataset(
            dataset.name, dataset.digest, "local", json.dumps({"uri": dataset.uri}), profile=json.dumps(dataset.profile)
        )
        tags = [entities.InputTag("mlflow.data.context", "train")]
        with translate_errors("log the data set"):
            self.client.log_inputs(run_id, [entities.DatasetInput(named, tags)])

    @contextmanager
    def watch_machine(self, run_id: str) -> Iterator[None]:
        """Logs the load of this machine and its GPUs to a run while a block runs: MLflow's own system metrics.

        GPUs are seen by the package ``nvidia-ml-py``. What fails is left out, and does not disturb the block.
        """
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        logging.getLogger("mlflow.system_metrics").setLevel(logging.CRITICAL)
        monitor: Any = SystemMetricsMonitor(  # type: ignore[no-untyped-call]
            run_id, SAMPLE_S, SAMPLES_A_POINT, resume_logging=True, tracking_uri=self.uri
        )
        monitor.start()
        try:
            yield
        finally:
            monitor.finish()

    def set_experiment_tag(self, key: str, value: str) -> None:
        """Sets a tag of the experiment, over an earlier value."""
        with translate_errors("tag the experiment"):
            self.client.set_experiment_tag(self.experiment_id, key, value)

    def reopen(self, run_id: str) -> None:
        """Marks a run as running again, as after a resume."""
        with translate_errors("reopen the run"):
            self.client.update_run(run_id, status="RUNNING")

    def finish(self, run_id: str, status: RunStatus = "FINISHED", timestamp_ms: int | None = None) -> None:
        with translate_errors("finish the run"):
            self.client.set_terminated(run_id, status, timestamp_ms)


def now_ms() -> int:
    """Returns the time as MLflow counts it: in milliseconds since 1970."""
    return int(time.time() * 1000)

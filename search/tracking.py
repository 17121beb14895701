"""MLflow, spoken to through its client alone: nested runs, batched metrics, absolute paths.

This is the only module that imports mlflow, and it does so late, as the import costs seconds. Nothing here
uses MLflow's fluent API, whose active run is global state.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse

from search.bar import RECORDED_BAR
from search.errors import SearchError
from search.mlflow_ui import (
    EXPERIMENT_NOTE,
    PARENT_TAG,
    ZEROSHOT_NOTE,
    clean_name,
    compose_charts_url,
    describe_recorded_bar,
    flatten_params,
    hide_password,
)
from search.tracking_errors import TrackingError, call_within, translate_errors
from search.tracking_uri import make_uri_absolute

if TYPE_CHECKING:
    from mlflow import MlflowClient

NOTE_TAG = "mlflow.note.content"
RUN_KIND_TAG = "run_kind"
RUN_STATUSES = ("FINISHED", "FAILED", "KILLED")

# A dead server blocks a call for four minutes by MLflow's own defaults, and for 5 to 20 s by these.
# The last one keeps the client from printing two lines whenever a run on a server ends.
ENVIRONMENT_DEFAULTS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
CONNECT_TIMEOUT_S = 12.0

_BATCH_PARAMS = _BATCH_TAGS = 100  # what a tracking server takes in one request
_MAX_PARAM_CHARS = 6000
_MAX_TAG_CHARS = 5000

logger = logging.getLogger(__name__)


class Tracker:
    """Writes the runs of one MLflow experiment.

    Every method that writes raises :class:`~search.tracking_errors.TrackingUnavailable` for an outage and
    :class:`~search.tracking_errors.TrackingError` for a record that MLflow will never take. Writing the same
    metrics twice (same run, name, value, step and timestamp) leaves them once on MLflow's SQL stores, so that
    a call whose answer was lost can be repeated.

    Attributes:
        uri: The tracking URI, absolute.
        experiment_id: MLflow's id of the experiment.
        n_dropped: How often each metric was NaN or infinite and therefore left out.
    """

    def __init__(self, uri: str, experiment_id: str) -> None:
        self.uri = uri
        self.experiment_id = experiment_id
        self.n_dropped: Counter[str] = Counter()
        self._client: MlflowClient | None = None

    @classmethod
    def connect(cls, experiment: str, artifact_root: Path | None = None) -> Tracker:
        """Opens the store and finds or creates the experiment.

        The store is `MLFLOW_TRACKING_URI`, else MLflow's default in the working directory, resolved to
        absolute paths now, as Ray changes directories later.

        Args:
            experiment: The experiment's name.
            artifact_root: Folder for the artifacts of a new experiment; None leaves it to MLflow (`./mlruns`
                for a local store). An experiment that exists keeps its own.

        Raises:
            SearchError: The store cannot be reached (told within about 12 s for a server), cannot be used, or
                the experiment has been deleted there.
        """
        for name, value in ENVIRONMENT_DEFAULTS.items():
            os.environ.setdefault(name, value)
        from mlflow.tracking import get_tracking_uri

        uri = make_uri_absolute(str(get_tracking_uri()))
        tracker = cls(uri, "")
        location = None if artifact_root is None else artifact_root.resolve().as_uri()
        try:
            is_server = urlparse(uri).scheme in ("http", "https")
            # Making a sqlite store takes seconds of migrations on a slow disk: no deadline there.
            timeout_s = CONNECT_TIMEOUT_S if is_server else None
            tracker.experiment_id = call_within(
                timeout_s, lambda: tracker._find_or_create_experiment(experiment, location)
            )
        except TrackingError as error:
            raise SearchError(
                f"MLflow's store {hide_password(uri)} cannot be used: {error}. Start the server, or point "
                "MLFLOW_TRACKING_URI to another store, or unset it to use sqlite in the working directory."
            ) from error
        return tracker

    @property
    def client(self) -> MlflowClient:
        """MLflow's client, made at first use, so that a tracker can be pickled."""
        if self._client is None:
            with translate_errors("open the store"):
                from mlflow import MlflowClient

                _quiet_loggers()
                self._client = MlflowClient(tracking_uri=self.uri)
        return self._client

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_client": None}

    def compose_charts_url(self, parent: str) -> str:
        """Returns the address of the charts of a search's runs, best first."""
        return compose_charts_url(self.uri, self.experiment_id, parent)

    def start_search(
        self, name: str, tags: Mapping[str, str] | None = None, params: Mapping[str, object] | None = None
    ) -> str:
        """Opens the parent run of a search and returns its run id."""
        return self._start_run(name, {**(tags or {}), RUN_KIND_TAG: "search"}, params or {}, None)

    def start_child(
        self,
        parent: str,
        name: str,
        run_kind: str,
        tags: Mapping[str, str] | None = None,
        params: Mapping[str, object] | None = None,
        timestamp_ms: int | None = None,
    ) -> str:
        """Opens a run nested in `parent` and returns its run id.

        Args:
            parent: Run id of the search.
            name: The run's name in the UI.
            run_kind: `trial`, `zeroshot` or `recorded`.
            tags: Tags besides the run kind and the parent.
            params: Parameters; MLflow never lets them change.
            timestamp_ms: When the run began, in milliseconds since 1970; None is now.
        """
        child_tags = {**(tags or {}), RUN_KIND_TAG: run_kind, PARENT_TAG: parent}
        return self._start_run(name, child_tags, params or {}, timestamp_ms)

    def find_child(self, parent: str, tags: Mapping[str, str]) -> str | None:
        """Returns the run id of the parent's first child that carries these tags, or None."""
        wanted = {PARENT_TAG: parent, **tags}
        query = " and ".join(f"tags.`{key}` = '{value}'" for key, value in wanted.items())
        with translate_errors("search the runs"):
            order = ["attributes.start_time ASC"]
            runs = self.client.search_runs([self.experiment_id], query, max_results=1, order_by=order)
        return runs[0].info.run_id if runs else None

    def log_params(self, run_id: str, params: Mapping[str, object]) -> None:
        """Logs parameters; nested mappings become dotted names, long values are cut at 6,000 characters."""
        from mlflow.entities import Param

        flat = flatten_params(params)
        batch = [Param(clean_name(key), str(value)[:_MAX_PARAM_CHARS]) for key, value in flat.items()]
        with translate_errors("log parameters"):
            for start in range(0, len(batch), _BATCH_PARAMS):
                self.client.log_batch(run_id, params=batch[start : start + _BATCH_PARAMS])

    def log_metrics(
        self, run_id: str, metrics: Mapping[str, float], step: int, timestamp_ms: int | None = None
    ) -> None:
        """Logs the metrics of one step in one request; NaN and infinite values are left out and counted.

        Characters that MLflow does not allow in a name become underscores.
        """
        from mlflow.entities import Metric

        time_ms = _now_ms() if timestamp_ms is None else timestamp_ms
        batch = [
            Metric(clean_name(name), float(value), time_ms, step)
            for name, value in metrics.items()
            if self._is_loggable(name, float(value), step)
        ]
        if batch:
            with translate_errors("log metrics"):
                self.client.log_batch(run_id, metrics=batch)

    def log_artifact(self, run_id: str, path: Path, artifact_path: str | None = None) -> None:
        """Stores a file, or a folder with all that is in it, among the run's artifacts."""
        with translate_errors(f"store {path.name}"):
            if path.is_dir():
                self.client.log_artifacts(run_id, str(path), artifact_path)
            else:
                self.client.log_artifact(run_id, str(path), artifact_path)

    def log_dict(self, run_id: str, content: Mapping[str, Any], artifact_file: str) -> None:
        """Stores a mapping as an artifact, JSON or YAML by the file's suffix."""
        with translate_errors(f"store {artifact_file}"):
            self.client.log_dict(run_id, dict(content), artifact_file)

    def log_text(self, run_id: str, text: str, artifact_file: str) -> None:
        """Stores a text as an artifact."""
        with translate_errors(f"store {artifact_file}"):
            self.client.log_text(run_id, text, artifact_file)

    def set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Sets tags, over earlier values; values are cut at 5,000 characters."""
        from mlflow.entities import RunTag

        batch = [RunTag(key, str(value)[:_MAX_TAG_CHARS]) for key, value in tags.items()]
        with translate_errors("set tags"):
            for start in range(0, len(batch), _BATCH_TAGS):
                self.client.log_batch(run_id, tags=batch[start : start + _BATCH_TAGS])

    def reopen(self, run_id: str) -> None:
        """Marks a run as running again, as after a resume."""
        with translate_errors("reopen the run"):
            self.client.update_run(run_id, status="RUNNING")

    def finish(self, run_id: str, status: str = "FINISHED", timestamp_ms: int | None = None) -> None:
        """Ends a run with the status `FINISHED`, `FAILED` or `KILLED`."""
        assert status in RUN_STATUSES, status
        with translate_errors("finish the run"):
            self.client.set_terminated(run_id, status, timestamp_ms)

    def log_recorded_bar(self, parent: str, max_epochs: int = 1) -> str:
        """Logs the recorded zero-shot figure as a run of its own and returns its run id.

        A second call for the same parent, as after a resume, finds the first one's run.

        Args:
            parent: Run id of the search.
            max_epochs: Last step of the constant series `bar_recorded`, so that charts draw a line.
        """
        bar = RECORDED_BAR
        assert bar.overall_dice is not None and bar.overall_iou is not None
        tags = {"dataset": bar.dataset, "protocol": bar.protocol, "split": bar.split}
        run_id = self._find_or_start(
            parent, "recorded-zeroshot", "recorded", {**tags, NOTE_TAG: describe_recorded_bar(bar)}
        )
        self.log_metrics(run_id, {"test_dice": bar.overall_dice, "test_iou": bar.overall_iou}, step=0)
        self._log_constants(run_id, {"bar_recorded": bar.overall_dice}, max_epochs)
        self.finish(run_id)
        return run_id

    def log_zeroshot_bar(
        self, parent: str, figures: Mapping[str, float], tags: Mapping[str, str], max_epochs: int = 1
    ) -> str:
        """Logs the zero-shot figures measured in this search as a run of its own and returns its run id.

        The figures are constant series over the trials' epochs: in the chart of `val_dice` the bar is a
        horizontal line among the trials' curves.

        Args:
            parent: Run id of the search.
            figures: `val_dice`, `val_iou`, `val_dice/<class>` and whatever else was measured.
            tags: Data, protocol and the like.
            max_epochs: Last step of the constant series.
        """
        assert "val_dice" in figures, sorted(figures)
        run_id = self._find_or_start(parent, "zeroshot", "zeroshot", {NOTE_TAG: ZEROSHOT_NOTE, **tags})
        self._log_constants(run_id, {**figures, "bar_zeroshot": figures["val_dice"]}, max_epochs)
        self.finish(run_id)
        return run_id

    def _find_or_create_experiment(self, name: str, location: str | None) -> str:
        with translate_errors("open the experiment"):
            experiment = self.client.get_experiment_by_name(name)
            if experiment is None:
                # The kind opens the table and charts of training runs; without it the UI asks the user first.
                tags = {"mlflow.experimentKind": "custom_model_development", NOTE_TAG: EXPERIMENT_NOTE}
                return str(self.client.create_experiment(name, artifact_location=location, tags=tags))
        if experiment.lifecycle_stage != "active":
            raise TrackingError(
                f"experiment '{name}' has been deleted there; restore it (mlflow experiments restore "
                f"-x {experiment.experiment_id}) or name another"
            )
        return str(experiment.experiment_id)

    def _find_or_start(self, parent: str, name: str, run_kind: str, tags: Mapping[str, str]) -> str:
        found = self.find_child(parent, {RUN_KIND_TAG: run_kind})
        return found or self.start_child(parent, name, run_kind, tags)

    def _start_run(
        self, name: str, tags: Mapping[str, str], params: Mapping[str, object], timestamp_ms: int | None
    ) -> str:
        start_ms = _now_ms() if timestamp_ms is None else timestamp_ms
        all_tags = {key: str(value)[:_MAX_TAG_CHARS] for key, value in tags.items()}
        if "git_commit" in all_tags:
            all_tags["mlflow.source.git.commit"] = all_tags["git_commit"]  # the UI's own column "Version"
        with translate_errors("open a run"):
            run = self.client.create_run(self.experiment_id, start_ms, all_tags, run_name=name)
        run_id = str(run.info.run_id)
        if params:
            self.log_params(run_id, params)
        return run_id

    def _log_constants(self, run_id: str, figures: Mapping[str, float], last_step: int) -> None:
        # The run's own start is the timestamp: a repeated call writes the same rows, not more of them.
        with translate_errors("read the run"):
            start_ms = int(self.client.get_run(run_id).info.start_time)
        for step in sorted({0, last_step}):
            self.log_metrics(run_id, figures, step, start_ms)

    def _is_loggable(self, name: str, value: float, step: int) -> bool:
        if math.isfinite(value):
            return True
        self.n_dropped[name] += 1
        if self.n_dropped[name] == 1:
            logger.warning("%s is %s at step %d: not sent to MLflow (told once a metric)", name, value, step)
        return False


def _quiet_loggers() -> None:
    """Keeps table migrations off the screen, and tracebacks of failures that we tell in our own words."""
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)


def _now_ms() -> int:
    return int(time.time() * 1000)

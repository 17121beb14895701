"""Ray Tune's events as MLflow runs: one nested run a trial, written once, whatever happens in between."""

from __future__ import annotations

import functools
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from ray.tune import Callback
from ray.tune.experiment import Trial

from search.cluster.failures import describe_failure, is_made_anew
from search.space.recorded_experiments import RECORDED_BAR
from search.study.trial_attributes import FROM_TRIAL, NO_RESULT
from search.tracking.errors import TrackingError
from search.tracking.outbox import Outbox, Record
from search.tracking.search_run import Contents, check_record, deliver_search_record
from search.tracking.tracker import RUN_STATUSES, Tracker
from search.tracking.trial_runs import TRIAL_ID_TAG, TrialRun, read_trial_runs, write_trial_runs
from trainables.context import FAILURE, SEED_KEY

# What is logged of a trial's result: these names, and names that begin with these prefixes.
LOGGED_NAMES = frozenset({"lr", "images_per_s", "seconds", "regions_per_pass", "trained_parameters"})
LOGGED_PREFIXES = ("val_", "train_", "lr/", "seconds/")

RUN_MAP_FILE = "mlflow_runs.json"
OUTBOX_FILE = "mlflow_outbox.jsonl"

# What a trial's records hold by their event; see :func:`~search.tracking.search_run.check_record`.
_CONTENTS: Contents = {
    "start": {"name": str, "run_kind": str, "tags": dict[str, Any], "params": dict[str, Any]},
    "metrics": {"metrics": dict[str, float], "step": int},
    "progress": {"metrics": dict[str, float], "step": int},
    "reopen": {},
    "finish": {"status": Literal[RUN_STATUSES], "tags": dict[str, Any]},
}

Hook = TypeVar("Hook", bound=Callable[..., None])

logger = logging.getLogger(__name__)


def _never_raise(hook: Hook) -> Hook:
    """Logs what a hook raises: an exception in a Tune callback would end the whole search."""

    @functools.wraps(hook)
    def guarded(*args: Any, **kwargs: Any) -> None:
        try:
            hook(*args, **kwargs)
        except Exception:
            logger.exception("tracking failed in %s; the search goes on", hook.__name__)

    return guarded  # type: ignore[return-value]


class TrackingCallback(Callback):
    """Logs every trial of a search as a child of its parent run.

    Each event is a record that goes to an :class:`~search.tracking.outbox.Outbox` in the search's folder before it
    goes to MLflow. During an outage the records wait there, in order; a later event, the search's end, or a
    resume delivers them. The folder also holds the map from trial to run, so that a resumed search goes on
    in the runs that it has.

    `training_iteration` is the step; a step that a restored trial repeats is not logged again. The parent run
    shows the best so far over the number of trials ended.
    """

    def __init__(
        self,
        tracker: Tracker,
        parent: str,
        zeroshot: Mapping[str, float] | None,
        max_epochs: int,
        class_names: Sequence[str],
        tags: Mapping[str, str],
        folder: Path,
        trial_tags: Callable[[str], Mapping[str, str]] | None = None,
        run_kind: str = "trial",
    ) -> None:
        """Reads the folder's map and outbox, where an earlier run of the search left them.

        Args:
            tracker: The open experiment.
            parent: Run id of the search.
            zeroshot: Measured zero-shot figures: `val_dice` and, where known, `val_dice/<class>`. None where
                trials are scored under protocols of their own, so that no bar stands beside them.
            max_epochs: Epochs of a whole trial; one that ends earlier is tagged `stopped=early`.
            class_names: Classes whose Dice is also logged as difference from zero-shot.
            tags: Tags of every trial: trainable, space, data_fingerprint, protocol, protocol_id, git_commit,
                seed.
            folder: The search's folder.
            trial_tags: Gives a trial's own tags by its Ray id, such as starting_point; picklable.
            run_kind: `trial`; or, for trials that are no part of the search itself and do not count in what the
                parent run shows, `confirmation` or `refit`.
        """
        assert zeroshot is None or "val_dice" in zeroshot, zeroshot
        self._tracker = tracker
        self._parent = parent
        self._zeroshot = None if zeroshot is None else dict(zeroshot)
        self._max_epochs = max_epochs
        self._class_names = tuple(class_names)
        self._tags = dict(tags)
        self._folder = folder.absolute()
        self._trial_tags = trial_tags
        self._run_kind = run_kind
        self._read_folder()

    def __getstate__(self) -> dict[str, Any]:
        # Ray pickles callbacks when fit() starts and hands that copy to a restore: the folder knows better.
        return {key: value for key, value in self.__dict__.items() if key not in ("_runs", "_outbox")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._read_folder()

    @property
    def run_ids(self) -> dict[str, str]:
        """MLflow's run id by Ray's trial id, for the trials that have reached MLflow."""
        return {trial_id: run.run_id for trial_id, run in self._runs.items() if run.run_id}

    def flush(self) -> int:
        """Tries to deliver what waits, now, and returns how many records still wait on disk."""
        return self._outbox.flush(force=True)

    def settle(self) -> int:
        """Ends what an interrupt left open, delivers what waits, and returns how many records still wait.

        For the caller of ``fit()``: Tune runs copies of its callbacks, so this one first reads what they wrote.
        """
        self._read_folder()
        return self._end_all()

    def post_search(self, event: str, **content: Any) -> None:
        """Logs something of the search itself, at once or, behind what already waits, when MLflow is back.

        Args:
            event: One of those of :func:`~search.tracking.search_run.deliver_search_record`, which names the
                content too. None that stores files: in order, a store that fails would hold up the trials.
            content: JSON's types.
        """
        self._outbox.post({"event": event, "time_ms": int(time.time() * 1000), **content})
        self._outbox.flush()

    def end_trial(self, trial_id: str, failure: str = "") -> None:
        """Gives a trial that had ended before a stop its end in MLflow, where the stop came in between.

        Args:
            trial_id: Ray's.
            failure: Why it failed; empty where it did not.
        """
        run = self._runs.get(trial_id)
        if run is None or run.counted:
            return
        run.closed = False
        stopped = "early" if run.last_step < self._max_epochs else "no"
        tags = {"failure": failure} if failure else {"stopped": stopped}
        self._close(trial_id, run, "FAILED" if failure else "FINISHED", tags)

    def take_up(self, trial_id: str) -> None:
        """Asks MLflow for the last epoch of a trial that goes on, and for its run where the map has none.

        On a full disk the map was not written, and a damaged one is as good as none.
        """
        run = self._runs.get(trial_id)
        if run is None:
            found = self._tracker.find_child(self._parent, {TRIAL_ID_TAG: trial_id})
            if found is None:
                return
            run = self._runs[trial_id] = TrialRun(found, closed=True)  # so that it is reopened, as after any stop
        if run.run_id is not None:
            run.last_step = max(run.last_step, self._tracker.read_last_step(run.run_id, "train_loss"))
            self._write_map()

    def _end_all(self) -> int:
        for trial_id, run in self._runs.items():
            self._close(trial_id, run, "KILLED", {"stopped": "interrupted"})
        return self.flush()

    @_never_raise
    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Opens the trial's run, or takes up the one it has."""
        run = self._find_or_open(trial)
        if run.closed:
            run.closed = False
            self._post(trial.trial_id, "reopen")

    @_never_raise
    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """Logs one epoch: the result's metrics, the distance from zero-shot, and the bars."""
        step = int(result["training_iteration"])
        run = self._find_or_open(trial)
        if FAILURE in result:  # the trial ends itself
            self._close(trial.trial_id, run, "FAILED", {"failure": str(result[FAILURE])})
            return
        if step <= run.last_step:
            return
        run.last_step = step
        val_dice = float(result.get("val_dice", math.nan))
        if math.isfinite(val_dice):
            run.best_val_dice = max(val_dice, run.best_val_dice or 0.0)
        metrics = {**select_metrics(result), **self._compare(result)}
        if run.best_val_dice is not None:
            metrics["best_val_dice"] = run.best_val_dice
        self._post(trial.trial_id, "metrics", metrics=metrics, step=step)

    @_never_raise
    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Ends the run; `stopped=early` where the scheduler or a budget ended it before its last epoch."""
        run = self._runs.get(trial.trial_id)
        if run is not None:  # a trial that is stopped before it starts has none
            stopped = "early" if run.last_step < self._max_epochs else "no"
            self._close(trial.trial_id, run, "FINISHED", {"stopped": stopped})

    @_never_raise
    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Ends the run as failed, with the reason as the tag `failure`, unless the trial is made anew."""
        if is_made_anew(trial):
            return
        self._close(trial.trial_id, self._find_or_open(trial), "FAILED", {"failure": describe_failure(trial)})

    @_never_raise
    def on_experiment_end(self, trials: list[Trial], **info: Any) -> None:
        """Ends what is still open, of it as stopped early what a time budget ended, and delivers what waits."""
        for trial in trials:
            run = self._runs.get(trial.trial_id)
            if run is not None and trial.status == Trial.TERMINATED:
                tags = {"stopped": "early"} if run.last_step else {"failure": NO_RESULT}
                self._close(trial.trial_id, run, "FINISHED" if run.last_step else "FAILED", tags)
        left = self._end_all()
        if left:
            logger.warning(
                "%d records did not reach MLflow and wait in %s; a resume delivers them",
                left,
                self._folder / OUTBOX_FILE,
            )

    def _compare(self, result: Mapping[str, Any]) -> dict[str, float]:
        """Returns the bars and the differences from zero-shot, overall and by class."""
        assert RECORDED_BAR.overall_dice is not None
        if self._zeroshot is None:
            return {}
        figures = {"bar_recorded": RECORDED_BAR.overall_dice, "bar_zeroshot": self._zeroshot["val_dice"]}
        names = {"val_dice": "dice_minus_zeroshot"}
        names |= {f"val_dice/{name}": f"dice_minus_zeroshot/{name}" for name in self._class_names}
        for source, target in names.items():
            if source in result and source in self._zeroshot:
                figures[target] = float(result[source]) - self._zeroshot[source]
        return figures

    def _find_or_open(self, trial: Trial) -> TrialRun:
        run = self._runs.get(trial.trial_id)
        if run is None:
            run = self._runs[trial.trial_id] = TrialRun()
            own_tags = self._trial_tags(trial.trial_id) if self._trial_tags else {}
            tags = {**self._tags, **own_tags, TRIAL_ID_TAG: trial.trial_id}
            params = {key: _to_json(value) for key, value in trial.config.items()}
            name = name_run(self._run_kind, trial.trial_id, trial.config)
            self._post(trial.trial_id, "start", name=name, run_kind=self._run_kind, tags=tags, params=params)
        return run

    def _close(self, trial_id: str, run: TrialRun, status: str, tags: Mapping[str, str]) -> None:
        if run.closed:
            return
        run.closed = True
        self._post(trial_id, "finish", status=status, tags=dict(tags))
        if status != "KILLED" and not run.counted and self._run_kind == "trial":
            run.counted = True
            self._post(trial_id, "progress", metrics=self._sum_up(), step=self._count_ended())

    def _sum_up(self) -> dict[str, float]:
        """Returns what the parent run shows after each trial: the best so far beside the bars."""
        assert RECORDED_BAR.overall_dice is not None
        if self._zeroshot is None:
            return {"trials_ended": float(self._count_ended())}
        bar = self._zeroshot["val_dice"]
        figures = {"bar_recorded": RECORDED_BAR.overall_dice, "bar_zeroshot": bar}
        # Confirmations and refits never count: they are in the map beside the search's own trials.
        reached = [run.best_val_dice for run in self._runs.values() if run.counted and run.best_val_dice is not None]
        if reached:
            figures |= {"best_val_dice": max(reached), "best_dice_minus_zeroshot": max(reached) - bar}
        return {**figures, "trials_ended": float(self._count_ended())}

    def _count_ended(self) -> int:
        return sum(run.counted for run in self._runs.values())

    def _post(self, trial_id: str, event: str, **content: Any) -> None:
        # Outbox before map: what a kill leaves between the two is recovered from the outbox.
        time_ms = int(time.time() * 1000)
        self._outbox.post({"trial_id": trial_id, "event": event, "time_ms": time_ms, **content})
        self._write_map()
        self._outbox.flush()

    def _deliver(self, record: Record) -> None:
        """Does one record's work in MLflow; a repetition changes nothing."""
        if "trial_id" not in record:
            deliver_search_record(self._tracker, self._parent, self._folder, record)
            return
        check_record(record, _CONTENTS)
        trial_id, event, time_ms = record["trial_id"], record["event"], record["time_ms"]
        run = self._runs.setdefault(trial_id, TrialRun())
        if event == "start":
            if run.run_id is None:
                # A create whose answer was lost has left a run: find it before making another.
                found = self._tracker.find_child(self._parent, {TRIAL_ID_TAG: trial_id})
                run.run_id = found or self._tracker.start_child(
                    self._parent, record["name"], record["run_kind"], record["tags"], timestamp_ms=time_ms
                )
                self._write_map()
            self._tracker.log_params(run.run_id, record["params"])
            return
        if event == "progress":
            self._tracker.log_metrics(self._parent, record["metrics"], record["step"], time_ms)
            return
        if run.run_id is None:
            raise TrackingError(f"trial {trial_id} has no run")
        if event == "metrics":
            self._tracker.log_metrics(run.run_id, record["metrics"], record["step"], time_ms)
        elif event == "reopen":
            self._tracker.reopen(run.run_id)
        else:
            assert event == "finish", event
            self._tracker.set_tags(run.run_id, record["tags"])
            self._tracker.finish(run.run_id, record["status"], time_ms)

    def _read_folder(self) -> None:
        self._runs = read_trial_runs(self._folder / RUN_MAP_FILE)
        self._outbox = Outbox(self._folder / OUTBOX_FILE, self._deliver)
        for record in self._outbox.pending:
            if "trial_id" not in record or not _is_whole(record):
                continue  # a trial's that is not whole is refused when its turn comes
            run = self._runs.setdefault(record["trial_id"], TrialRun())
            if record["event"] == "metrics":
                run.last_step = max(run.last_step, record["step"])
                run.best_val_dice = record["metrics"].get("best_val_dice", run.best_val_dice)
            elif record["event"] == "progress":
                run.counted = True

    def _write_map(self) -> None:
        path = self._folder / RUN_MAP_FILE
        try:
            write_trial_runs(path, self._runs)
        except OSError as error:
            logger.warning("could not write %s: %s; a resume may log steps twice", path, error)


def _is_whole(record: Record) -> bool:
    try:
        check_record(record, _CONTENTS)
    except TrackingError:
        return False
    return True


def select_metrics(result: Mapping[str, Any]) -> dict[str, float]:
    """Returns the numbers of a result that are logged: see :data:`LOGGED_NAMES`, :data:`LOGGED_PREFIXES`."""
    return {
        name: float(value)
        for name, value in result.items()
        if (name in LOGGED_NAMES or name.startswith(LOGGED_PREFIXES)) and _is_number(value)
    }


def name_run(run_kind: str, trial_id: str, config: Mapping[str, Any]) -> str:
    """Names a trial's run; one that trains a trial's configuration again is named after that trial."""
    if FROM_TRIAL not in config:
        return f"{run_kind}-{trial_id}"
    return f"{run_kind}-{config[FROM_TRIAL]}-seed{config[SEED_KEY]}"


def _is_number(value: object) -> bool:
    # NumPy's scalars have __float__ but are not all floats; booleans and strings are no metrics.
    return hasattr(value, "__float__") and not isinstance(value, (bool, str))


def _to_json(value: object) -> object:
    """Returns the value in the form that the outbox keeps: plain, nested mappings kept, the rest as text."""
    if isinstance(value, Mapping):
        return {str(key): _to_json(entry) for key, entry in value.items()}
    return value if isinstance(value, (bool, int, float, str)) else str(value)

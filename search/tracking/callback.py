"""Ray Tune's events as MLflow runs: one nested run a trial, written once, whatever happens in between."""

import functools
import logging
import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from ray.tune import Callback
from ray.tune.experiment import Trial

from search.cluster.failures import describe_failure, is_made_anew
from search.mlflow_pages.run_names import FAILED, STOPPED, name_repeat, name_trial, spell_number
from search.study.trial_attributes import FROM_TRIAL, NO_RESULT, TRIAL_NUMBER
from search.tracking.bar_runs import Bars
from search.tracking.records import End, Metrics, Progress, Reopening, TrialStart
from search.tracking.search_queue import OUTBOX_FILE, SearchQueue
from search.tracking.tracker import Dataset, RunStatus
from search.tracking.trial_runs import TRIAL_ID_TAG, TrialRun
from trainables.context import FAILURE, SEED_KEY, UPDATE_SCALE

# What is logged of a trial's result: these names, and names that begin with these prefixes.
LOGGED_NAMES = frozenset(
    {"lr", "images_per_s", "data_wait_fraction", "peak_memory_mb", "seconds", "trained_parameters"}
    | {"activation_checkpointing", "prefix_reused", "regions_per_pass", UPDATE_SCALE}
)
LOGGED_PREFIXES = ("val_", "train_", "lr/", "seconds/")

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
    """Logs every trial of a search as a child of its parent run, through the search's queue.

    `training_iteration` is the step; a step that a restored trial repeats is not logged again. The parent run
    shows the best so far over the number of trials ended. Tune runs a copy of this callback, with a copy of the queue.
    """

    def __init__(
        self,
        queue: SearchQueue,
        bars: Bars | None,
        max_epochs: int,
        tags: Mapping[str, str],
        trial_tags: Callable[[str], Mapping[str, str]],
        run_kind: str = "trial",
        dataset: Dataset | None = None,
    ) -> None:
        """Takes what the trials have in common: bars (None if each has a protocol of its own), whole epochs, and tags.

        ``trial_tags`` returns a trial's own tags by its Ray id, such as trial_number, and is picklable. The kind is
        `trial`; or, for trials that are no part of the search itself and do not count in what the parent run shows,
        `confirmation` or `refit`.
        """
        self.queue = queue
        self._bars = bars
        self._max_epochs = max_epochs
        self._tags = dict(tags)
        self._trial_tags = trial_tags
        self._run_kind = run_kind
        self._dataset = dataset

    @property
    def _runs(self) -> dict[str, TrialRun]:
        return self.queue.runs.by_trial

    def settle(self) -> int:
        """Ends what an interrupt left open, delivers what waits, and returns how many records still wait.

        For the caller of ``fit()``: Tune runs copies of its callbacks, so this one first reads what they wrote.
        """
        self.queue.reread()
        return self._end_all()

    def end_trial(self, trial_id: str, failure: str = "") -> None:
        """Logs the end of a trial that had ended, or failed for a reason, before a stop that came in between."""
        run = self._runs.get(trial_id)
        if run is None or run.counted:
            return
        stopped = "early" if run.last_step < self._max_epochs else "no"
        tags = {"failure": failure} if failure else {"stopped": stopped}
        self._post_end(trial_id, run, "FAILED" if failure else "FINISHED", tags)

    def take_up(self, trial_id: str) -> None:
        """Asks MLflow for the last epoch of a trial that goes on, and for its run where the map has none.

        On a full disk the map was not written, and a damaged one is as good as none.
        """
        runs, run = self.queue.runs, self._runs.get(trial_id)
        if run is None:
            found = runs.search(trial_id)
            if found is None:
                return
            run = self._runs[trial_id] = TrialRun(found, closed=True)  # so that it is reopened, as after any stop
        if run.run_id is not None:
            run.last_step = max(run.last_step, runs.tracker.read_last_step(run.run_id, "train_loss"))
            self.queue.write_runs()

    def _end_all(self) -> int:
        for trial_id, run in self._runs.items():
            self._close(trial_id, run, "KILLED", {"stopped": "interrupted"})
        return self.queue.flush()

    @_never_raise
    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Opens the trial's run, or takes up the one it has."""
        run = self._find_or_open(trial)
        if run.closed:
            self.queue.post(Reopening(trial.trial_id))

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
        metrics = {**select_metrics(result), **(self._bars.compare(result) if self._bars else {})}
        known = (run.best_val_dice, float(result.get("val_dice", math.nan)))
        if finite := [dice for dice in known if dice is not None and math.isfinite(dice)]:
            metrics["best_val_dice"] = max(finite)
        self.queue.post(Metrics(metrics, step, trial.trial_id))

    @_never_raise
    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Ends the run; `stopped=early` where its last epoch did not come: by scheduler, patience or budget."""
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
                "%d records wait for MLflow in %s; what comes later delivers them, or a resume",
                left,
                self.queue.runs.folder / OUTBOX_FILE,
            )

    def _find_or_open(self, trial: Trial) -> TrialRun:
        if trial.trial_id not in self._runs:
            own_tags = self._trial_tags(trial.trial_id)
            tags = {**self._tags, **own_tags, TRIAL_ID_TAG: trial.trial_id}
            name = self._name_run(trial, own_tags.get("protocol", ""))
            self.queue.post(TrialStart(trial.trial_id, name, self._run_kind, tags, dict(trial.config), self._dataset))
        return self._runs[trial.trial_id]

    def _name_run(self, trial: Trial, protocol: str) -> str:
        """Names a trial's run; one that trains a trial's configuration again is named after that trial."""
        origin = str(trial.config.get(FROM_TRIAL, trial.trial_id))
        number = spell_number(self._trial_tags(origin).get(TRIAL_NUMBER, origin))
        if FROM_TRIAL in trial.config:
            return name_repeat(self._run_kind, number, trial.config[SEED_KEY])
        return name_trial(self._run_kind, number, trial.config, protocol)

    def _close(self, trial_id: str, run: TrialRun, status: RunStatus, tags: Mapping[str, str]) -> None:
        if not run.closed:
            self._post_end(trial_id, run, status, tags)

    def _post_end(self, trial_id: str, run: TrialRun, status: RunStatus, tags: Mapping[str, str]) -> None:
        end = {"FAILED": FAILED, "FINISHED": f"{STOPPED}{run.last_step}" if tags.get("stopped") == "early" else ""}
        self.queue.post(End(status, dict(tags), trial_id, end.get(status, "")))
        if status != "KILLED" and not run.counted and self._run_kind == "trial":
            self.queue.post(self._sum_up(trial_id, run))

    def _sum_up(self, trial_id: str, last: TrialRun) -> Progress:
        """Returns what the parent run shows after a trial: the best so far beside the bars."""
        # Confirmations and refits never count: they are in the map beside the search's own trials.
        ended = [*(run for run in self._runs.values() if run.counted), last]
        best = max((run.best_val_dice for run in ended if run.best_val_dice is not None), default=None)
        figures = self._bars.compare_best(best) if self._bars else {}
        return Progress(trial_id, {**figures, "trials_ended": float(len(ended))}, len(ended))


def select_metrics(result: Mapping[str, Any]) -> dict[str, float]:
    """Returns the numbers of a result that are logged: see :data:`LOGGED_NAMES`, :data:`LOGGED_PREFIXES`."""
    return {
        name: float(value)
        for name, value in result.items()
        if (name in LOGGED_NAMES or name.startswith(LOGGED_PREFIXES))
        # NumPy's scalars have __float__ but are not all floats; strings have none, and booleans are no metrics.
        and hasattr(value, "__float__")
        and not isinstance(value, bool)
    }

"""The searcher of Ray Tune: an Optuna study proposes the trials and learns how each of them ended."""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState
from ray.tune.search import Searcher

from search.space.kinds import StopConfig
from search.space.objective import DICE
from search.space.parameters import Parameter, list_conditions, sort_parents_first
from search.space.starting_points import StartingPoint
from search.study.distributions import suggest_applying, to_distributions
from search.study.journal import undo_if_torn, undo_torn_lines
from search.study.study_file import StudyFile
from search.study.trial_attributes import (
    BEST_EPOCH,
    BEST_VALUE,
    CURVE_PREFIX,
    NO_RESULT,
    RAY_TRIAL_ID,
    REASON,
    RETRY_OF,
    STARTING_POINT,
    count_begun,
    is_imported,
    list_failed,
    read_curve,
)
from trainables.context import COMPLETE, FAILURE, STOPPED_BY

_log = logging.getLogger(__name__)


class StudySearcher(Searcher):
    """A searcher of Ray Tune over an Optuna study that stays right through stops, failures and restarts.

    How a trial ends in the study:

    - after all its epochs, or where it ended itself as ``complete`` (the user attribute ``stopped_by`` says
      why): COMPLETE, with the best value over them, since checkpoints are chosen by best epoch;
    - stopped before (by the scheduler, or when time ran out): PRUNED, with its curve;
    - after an exception, or a last value that is not finite: FAIL, with the user attribute ``reason``.

    Every trial carries ``ray_trial_id``, except those that a warm start brought from earlier searches: they count for
    the sampler alone. Ended trials with a curve carry ``best_value`` and ``best_epoch``; those that a rule ended
    ``stopped_by``, the rule and why; those that the user wished to try first ``starting_point``, the point's name;
    those that try a failed trial again ``retry_of``, its id. With two objectives the first decides which epoch is best,
    and the trial's values are both of that epoch. Optuna takes no curve of two values: user attributes hold it,
    ``curve/1`` the values of epoch 1.

    The study is the one record of the search, and each line of it is on disk before Ray goes on. After a stop:

    - for the id of a trial that the study has, the searcher returns that trial's configuration;
    - a trial that was being drawn is removed and drawn again, with the same values; an end that was being written
      is removed likewise, and comes again from the last checkpoint;
    - trials that ended in the study and run again, for the checkpoint of their last epoch, keep their first end
      (as does a trial whose last checkpoint could not be written, an error that Ray reports after the end);
    - epochs that are reported again keep their first value.
    """

    def __init__(
        self,
        study_file: StudyFile,
        space: Mapping[str, Parameter],
        num_trials: int,
        max_epochs: int,
        metrics: Sequence[str] = (DICE,),
        starting_points: Sequence[StartingPoint] = (),
        stop: StopConfig | None = None,
    ) -> None:
        """Keeps the plan of the search; the study itself is opened when Tune asks for the first trial.

        Args:
            study_file: The study, with its sampler, seed and directions.
            space: What is searched, by flat name; what does not apply to a trial is not drawn.
            num_trials: Trials to propose in all, those before a resume included.
            max_epochs: Epochs (``training_iteration``) after which a trial counts as complete.
            metrics: Names of the objectives in a trial's results, one a direction of the study.
            starting_points: Points of the space to try first, in this order, as many as there are trials for;
                parameters that one leaves out are drawn.
            stop: When no new trial is started any more, before ``num_trials``; None for never.
        """
        assert len(metrics) == len(study_file.modes), (metrics, study_file.modes)
        super().__init__(metric=metrics[0], mode=study_file.modes[0])
        self._metrics = tuple(metrics)
        # Absolute, as the process that unpickles this may have another working directory.
        self._study_file = replace(study_file, journal=study_file.journal.absolute())
        self._conditions = list_conditions(space)
        distributions = to_distributions(space)
        self._distributions = {name: distributions[name] for name in sort_parents_first(space, self._conditions)}
        self._num_trials = num_trials
        self._max_epochs = max_epochs
        self._starting_points = tuple(starting_points)
        self._stop = stop
        self._failures: dict[str, str] = {}
        self._study: optuna.Study | None = None

    def suggest(self, trial_id: str) -> dict[str, Any] | str:  # type: ignore[override]  # Ray's own FINISHED
        """Proposes a trial: flat parameter names with their values, or FINISHED after ``num_trials``.

        A trial that the study has under this id, since a stop interrupted it, gets the values that it had.

        Raises:
            SearchError: The journal cannot be used.
        """
        study = self._open()
        own = _list_own(study)
        for known in own:
            if known.user_attrs.get(RAY_TRIAL_ID) == trial_id:
                return dict(known.params)
        retries = [trial for trial in own if RETRY_OF in trial.user_attrs]
        n_begun = count_begun(own)
        is_over = n_begun >= self._num_trials or self._has_plateau(own)
        if is_over and not any(trial.state == TrialState.WAITING for trial in retries):
            return str(self.FINISHED)
        study.sampler = self._study_file.make_sampler(n_begun, conditional=bool(self._conditions))
        with undo_if_torn(self._study_file.journal):
            trial = study.ask()
            suggest_applying(trial, self._distributions, self._conditions)
            trial.set_user_attr(RAY_TRIAL_ID, trial_id)
        # Read back, so that a starting point's values have the types that sampled ones have.
        return dict(study.get_trials(deepcopy=False)[trial.number].params)

    def ended_early(self) -> bool:
        """Whether the plateau stop left trials undone: for what is said at the end."""
        own = _list_own(self._open())
        return count_begun(own) < self._num_trials and self._has_plateau(own)

    def _has_plateau(self, own: Sequence[FrozenTrial]) -> bool:
        """Whether the best value has not risen for so many trials; of those that run only paused ones count."""
        stop = self._stop
        if stop is None:
            return False
        counted = (TrialState.COMPLETE, TrialState.PRUNED, *[TrialState.RUNNING] * self._study_file.pauses)
        curves = [read_curve(trial) for trial in own if trial.state in counted]
        bests = [curve[self._pick_best(curve)][0] for curve in curves if curve]
        if len(bests) <= stop.patience_trials:
            return False
        sign = 1 if self.mode == "max" else -1
        before, since = bests[: -stop.patience_trials], bests[-stop.patience_trials :]
        return max(sign * value for value in since) <= max(sign * value for value in before) + stop.min_gain

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Keeps a trial's value at an epoch; Tune hands the last one to ``on_trial_complete`` alone."""
        trial = self._find_running(trial_id)
        if trial is not None:
            self._report(trial, result)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Writes a trial's end into the study, by the rules in the class's docstring."""
        trial = self._find_running(trial_id)
        if trial is None:
            return
        # Whole or not at all: with its last value but no end, a resumed trial would count as one that the scheduler
        # let pass.
        with undo_if_torn(self._study_file.journal):
            self._end(trial, result or {}, error)

    def _end(self, trial: FrozenTrial, result: Mapping[str, Any], error: bool) -> None:
        if result:
            self._report(trial, result)
        study = self._open()
        curve = read_curve(study.get_trials(deepcopy=False)[trial.number])
        best = self._pick_best(curve) if curve else 0
        reason = _name_failure(result, error, curve, self._metrics)
        if error:
            reason = self._failures.pop(trial.user_attrs[RAY_TRIAL_ID], reason)
        attrs: dict[str, Any] = {BEST_VALUE: curve[best][0], BEST_EPOCH: best} if curve else {}
        attrs |= {} if reason is None else {REASON: reason}
        attrs |= {STOPPED_BY: str(result[STOPPED_BY])} if STOPPED_BY in result else {}
        writer = _thaw(study, trial)
        for name, value in attrs.items():
            writer.set_user_attr(name, value)
        if reason is not None:
            study.tell(trial.number, state=TrialState.FAIL)
        elif not result.get(COMPLETE) and max(*curve, result.get("training_iteration", 0)) < self._max_epochs:
            study.tell(trial.number, state=TrialState.PRUNED)
        else:
            study.tell(trial.number, curve[best])

    def retry_failed(self) -> None:
        """Lines up the configuration of every failed trial that has not been tried again, as a new trial."""
        study = self._open()
        for failed in list_failed(_list_own(study)):
            origin = {name: failed.user_attrs[name] for name in (STARTING_POINT,) if name in failed.user_attrs}
            study.enqueue_trial(failed.params, user_attrs={**origin, RETRY_OF: failed.user_attrs[RAY_TRIAL_ID]})

    def note_failure(self, trial_id: str, reason: str) -> None:
        """Keeps the reason of a failure for the call of :meth:`on_trial_complete` that follows."""
        self._failures[trial_id] = reason

    def save(self, checkpoint_path: str) -> None:
        """Keeps nothing: the study is on disk already."""

    def restore(self, checkpoint_path: str) -> None:
        """See :meth:`save`."""

    def __getstate__(self) -> dict[str, Any]:
        """Leaves the open study out: Tune pickles the searcher, and its reader opens the journal itself."""
        return {**self.__dict__, "_study": None}

    def _open(self) -> optuna.Study:
        if self._study is None:
            undo_torn_lines(self._study_file.journal)
            study = self._study_file.open()
            self._enqueue_starting_points(study)
            self._study = study
        return self._study

    def _enqueue_starting_points(self, study: optuna.Study) -> None:
        own = _list_own(study)
        tried = {trial.user_attrs.get(STARTING_POINT) for trial in own}
        n_free = self._num_trials - sum(RETRY_OF not in trial.user_attrs for trial in own)
        new = [point for point in self._starting_points if point.name not in tried]
        for point in new[: max(0, n_free)]:
            study.enqueue_trial(dict(point.values), user_attrs={STARTING_POINT: point.name})

    def _find_running(self, trial_id: str) -> FrozenTrial | None:
        for trial in reversed(self._open().get_trials(deepcopy=False)):  # those that run are among the last
            if trial.user_attrs.get(RAY_TRIAL_ID) == trial_id:
                if not trial.state.is_finished():
                    return trial
                _log.info("trial %s ended before as %s; ignored what came after", trial_id, trial.state.name)
                return None
        _log.warning("trial %s is not in the study; ignored its result", trial_id)
        return None

    def _report(self, trial: FrozenTrial, result: Mapping[str, Any]) -> None:
        values, epoch = [result.get(metric, math.nan) for metric in self._metrics], result.get("training_iteration")
        if epoch is None or not all(map(_is_finite, values)) or int(epoch) in read_curve(trial):
            return
        writer = _thaw(self._open(), trial)
        if len(values) == 1:
            writer.report(float(values[0]), step=int(epoch))
        else:  # Optuna's report takes one value only
            writer.set_user_attr(f"{CURVE_PREFIX}{int(epoch)}", [float(value) for value in values])

    def _pick_best(self, curve: Mapping[int, Sequence[float]]) -> int:
        sign = 1 if self.mode == "max" else -1
        return max(sorted(curve), key=lambda epoch: sign * curve[epoch][0])  # the earliest of equals


def _list_own(study: optuna.Study) -> list[FrozenTrial]:
    return [trial for trial in study.get_trials(deepcopy=False) if not is_imported(trial)]


def _thaw(study: optuna.Study, trial: FrozenTrial) -> optuna.Trial:
    # Optuna hands out a writable trial only when it is asked for one, so that of an earlier process is built.
    return optuna.Trial(study, trial._trial_id)


def _name_failure(
    result: Mapping[str, Any], error: bool, curve: Mapping[int, Sequence[float]], metrics: Sequence[str]
) -> str | None:
    """Returns why a trial failed; None for one that did not."""
    if error:
        return "the trial raised an error"
    if result.get(FAILURE):
        return str(result[FAILURE])
    for metric in metrics:
        if metric in result and not _is_finite(result[metric]):
            return f"{metric} is {result[metric]} at epoch {result.get('training_iteration')}"
    return None if curve else NO_RESULT


def _is_finite(value: Any) -> bool:
    try:
        return math.isfinite(value)
    except TypeError:
        return False

"""Hands trials to Ray Tune: unfinished ones of an earlier run first, then new ones.

The one place that relies on Ray's private names: :class:`TrialGenerator` builds Tune's trials and counts their failures
as ``SearchGenerator`` and ``TuneController`` of ray 2.60 do. tests/search/tuning/test_trial_generator.py holds this.
"""

import copy
from collections import Counter, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from ray.train._internal.session import _TrainingResult
from ray.tune import Checkpoint
from ray.tune.experiment import Trial
from ray.tune.experiment.config_parser import _create_trial_from_spec
from ray.tune.search import ConcurrencyLimiter, Searcher
from ray.tune.search.search_generator import SearchGenerator

from search.cluster.failures import describe_failure
from search.tuning.promotion import PromotionScheduler
from search.tuning.reasons import find_reason
from search.tuning.seed_race import SeedRace
from search.tuning.unfinished import Row, UnfinishedTrial


class TrialGenerator(SearchGenerator):
    """Makes Tune's trials from a searcher that knows the configurations of unfinished trials by their ids."""

    def __init__(
        self,
        searcher: Searcher,
        concurrent: int,
        find_kept: Callable[[str], tuple[tuple[Path, Row], ...]],
        unfinished: Sequence[UnfinishedTrial] = (),
        pausing: PromotionScheduler | None = None,
    ) -> None:
        """Takes the searcher, how many trials run at once, and those that go on first, in this order.

        Args:
            searcher: Its ``suggest`` returns an unfinished trial's configuration for that trial's id, and new ones for
                new ids; it may have ``note_failure``.
            find_kept: Returns the whole checkpoints of a trial by its id, as ``UnfinishedTrial.kept`` has them.
            pausing: The scheduler, if it pauses trials: these take no place. Those that were paused before a stop come
                back first, as paused ones.
        """
        self._limiter = ConcurrencyLimiter(searcher, concurrent)
        super().__init__(self._limiter)
        self._find_kept, self._pausing, self._concurrent = find_kept, pausing, concurrent
        self._unfinished = deque(sorted(unfinished, key=lambda trial: not self._is_paused(trial)))
        self._made: dict[str, Trial] = {}
        self._n_failures: Counter[str] = Counter()

    def create_trial_if_possible(self, experiment_spec: dict[str, Any]) -> Trial | None:
        """Returns the next trial; None while as many run as may, a paused one is to go on, or there are no more."""
        n_paused = sum(trial.status == Trial.PAUSED for trial in self._made.values())
        self._limiter.max_concurrent = self._concurrent + n_paused
        if not self._unfinished:
            if self._pausing is not None and self._pausing.has_waiting():
                return None
            trial = super().create_trial_if_possible(experiment_spec)
        else:
            trial = self._continue_trial(experiment_spec, self._unfinished[0])
            if trial is not None:
                self._unfinished.popleft()
        if trial is not None:
            self._made[trial.trial_id] = trial
        return trial

    def is_finished(self) -> bool:
        """Whether no more trials will come."""
        return not self._unfinished and bool(super().is_finished())

    def set_finished(self) -> None:
        """Ends the search when Tune's time budget is spent; Tune itself reports no end of the trials that it stops."""
        super().set_finished()  # type: ignore[no-untyped-call]
        self._unfinished.clear()
        for trial_id in sorted(self._limiter.live_trials):
            self._limiter.on_trial_complete(trial_id)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Ends a trial in the searcher, with the reason where it failed; or makes it anew.

        If a worker dies with two calls pending, Tune (2.60) counts two failures: the first reschedules the trial, the
        second drops it. We undo the second: the trial is made anew, under its id, from its last checkpoint, with as
        many retries as it had left.
        """
        trial = self._made.get(trial_id)
        if error and trial is not None and trial.status == Trial.PENDING and not self._finished:
            trial.run_metadata.num_failures -= 1
            self._n_failures[trial_id] = trial.run_metadata.num_failures
            self._limiter.live_trials.discard(trial_id)
            self._limiter.num_unfinished_live_trials -= 1
            self._unfinished.appendleft(UnfinishedTrial(trial_id, self._find_kept(trial_id)))
            return
        if error and trial is not None and hasattr(self._limiter.searcher, "note_failure"):
            self._limiter.searcher.note_failure(trial_id, describe_failure(trial))
        if not error and trial is not None and (reason := find_reason(trial)):
            result = {**(result or {}), **reason}
        super().on_trial_complete(trial_id, result, error)

    def _continue_trial(self, experiment_spec: dict[str, Any], unfinished: UnfinishedTrial) -> Trial | None:
        is_paused = self._is_paused(unfinished)
        self._limiter.max_concurrent += is_paused
        config = self._limiter.suggest(unfinished.trial_id)
        if config is None:
            return None  # enough trials run
        assert isinstance(config, dict), config
        spec = copy.deepcopy(experiment_spec)
        spec["config"] = {**spec["config"], **config}
        if unfinished.last_epoch is not None:
            spec["stop"] = {"training_iteration": unfinished.last_epoch}
        trial: Trial = _create_trial_from_spec(
            spec,
            self._parser,
            evaluated_params=dict(config),
            experiment_tag=f"{unfinished.trial_id}_resumed",
            trial_id=unfinished.trial_id,
        )
        assert trial.storage is not None
        # It keeps its folder: Tune would give a trial that is made anew in one session another one.
        trial.storage.trial_dir_name = trial.custom_dirname
        trial.relative_logdir = trial.custom_dirname  # type: ignore[assignment]
        trial.init_local_path()  # type: ignore[no-untyped-call]
        for path, row in unfinished.kept:
            place = f"{trial.storage.trial_fs_path}/{path.name}"  # the original: path may be a copy
            checkpoint = Checkpoint(place, trial.storage.storage_filesystem)
            metrics = {**row, "training_iteration": int(row["training_iteration"])}
            trial.on_checkpoint(_TrainingResult(checkpoint=checkpoint, metrics=metrics))
        trial.run_metadata.num_failures = self._n_failures[unfinished.trial_id]
        # Tune numbers the checkpoint of an epoch from 0.
        trial.storage.current_checkpoint_index = unfinished.epoch - 1
        if is_paused:
            trial.set_status(Trial.PAUSED)  # type: ignore[no-untyped-call]
        return trial

    def _is_paused(self, unfinished: UnfinishedTrial) -> bool:
        return (
            self._pausing is not None
            and unfinished.last_epoch is None
            and self._pausing.is_paused(unfinished.trial_id, unfinished.epoch)
        )


class ListSearcher(Searcher):
    """Proposes known configurations, each once: in their order, or as a race of their finalists wants them."""

    def __init__(
        self,
        configs: Sequence[Mapping[str, Any]],
        unfinished: Mapping[str, Mapping[str, Any]] | None = None,
        race: SeedRace | None = None,
        ended: Collection[str] = (),
    ) -> None:
        """Takes new configurations, those of trials that go on after a stop by Ray's id, and the ids of ended trials.

        In a race those that it does not want are never proposed.
        """
        super().__init__(metric="train_loss", mode="min")
        self._known = {trial_id: dict(config) for trial_id, config in (unfinished or {}).items()}
        self._waiting = [dict(config) for config in configs]
        self._race, self._ended = race, set(ended)
        self._wanted: list[dict[str, Any]] | None = None

    def find_next(self) -> dict[str, Any] | None:
        """Returns the next configuration; None where there is none before another trial ends."""
        if self._race is None:
            return next(iter(self._waiting), None)
        if self._wanted is None:
            self._wanted = self._race.list_wanted(self._ended)
        return next((config for config in self._wanted if config in self._waiting), None)

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]  # Ray's own FINISHED
        """Returns a trial's configuration, or the next one; None while trials run after which there may be one."""
        if trial_id not in self._known:
            config = self.find_next()
            if config is None:
                return None if self._race and self._known.keys() - self._ended else str(self.FINISHED)
            self._waiting.remove(config)
            self._known[trial_id] = config
        return dict(self._known[trial_id])

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Has the race decide anew when the next configuration is asked for: by then all of this trial is on disk."""
        self._ended.add(trial_id)
        self._wanted = None

    def save(self, checkpoint_path: str) -> None:
        """Keeps nothing: what there is to know lies in the trials' folders."""

    def restore(self, checkpoint_path: str) -> None:
        """See :meth:`save`."""

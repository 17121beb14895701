"""One run of Ray Tune over the trials of one folder, with their files, the screen and their MLflow runs."""

import functools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ray import tune
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from search.cluster.checkpoint_storage import CheckpointStorage
from search.cluster.failures import MAX_RETRIES, StorageGuard, retry_after_memory_kills
from search.run_folder.layout import TRIALS_FOLDER
from search.run_folder.trial_folder import locate_trial, name_trial_folder
from search.stages.session import Session
from search.tracking.bar_runs import Bars
from search.tracking.callback import TrackingCallback
from search.tuning.epoch_log import EpochLog
from search.tuning.progress import SearchProgress
from search.tuning.promotion import PromotionScheduler
from search.tuning.racing import RacingScheduler
from search.tuning.screen import ProgressCallback
from search.tuning.seed_race import SeedRace
from search.tuning.trial_generator import TrialGenerator
from search.tuning.unfinished import Row, UnfinishedTrial, clear_checkpoints
from trainables.context import TrialContext
from trainables.protocol.scores import Scores, flatten_scores


class TuneRun:
    """A run of Ray Tune; its callbacks exist before it starts, so that a resume can report what had ended."""

    def __init__(
        self,
        session: Session,
        name: str,
        n_trials: int,
        epochs: int,
        zeroshot: Scores | None,
        trial_tags: Callable[[str], Mapping[str, str]],
        race: SeedRace | None = None,
    ) -> None:
        """Makes the callbacks.

        The name is that of the trials' folder in the search's: ``trials``; or, for what is not the search itself and
        has no time budget, ``confirmation`` or ``refit``, which is also the kind of these trials in MLflow. The bar on
        validation is None where each trial has a protocol of its own. ``trial_tags`` returns a trial's own MLflow tags
        by its Ray id, and is picklable. In a race the screen says who leaves.
        """
        plan, objective, is_search = session.plan, session.plan.config.objective, name == TRIALS_FOLDER
        bar = flatten_scores(zeroshot, "val") if zeroshot else None
        self.session, self.folder, self._epochs = session, plan.folder / name, epochs
        self.progress = SearchProgress(
            n_trials,
            epochs,
            session.resources.concurrent,
            bar[objective.metric] if bar else math.nan,
            time.monotonic(),
            trial_tags,
            plan.options.time_budget if is_search else None,
            objective,
        )
        prefix = "" if is_search else f"{name} - "
        heading = f"{prefix}{plan.name} - {plan.demo_words or plan.data.regions.name} - protocol {plan.protocol.name}"
        self._screen = ProgressCallback(self.progress, heading, session.console, race)
        self.tracking = TrackingCallback(
            session.open_queue(),
            Bars(bar, tuple(plan.data.store.classes.values())) if bar else None,
            epochs,
            session.tags,
            trial_tags,
            run_kind="trial" if is_search else name,
            dataset=session.dataset,
        )

    def fit(
        self,
        trainable: type[tune.Trainable],
        context: TrialContext,
        searcher: Searcher,
        num_samples: int,
        unfinished: Sequence[UnfinishedTrial],
        scheduler: TrialScheduler | None = None,
    ) -> None:
        """Runs the trials to their end, closes the screen, delivers what MLflow lacks, and fetches the checkpoints.

        Args:
            trainable: What a trial is.
            context: What all trials share; without validation regions only each trial's last checkpoint is kept.
            searcher: Proposes the trials' configurations.
            num_samples: Trials to start, unfinished ones included.
            unfinished: Trials that go on, before new ones.
            scheduler: Stops trials early; None for none.
        """
        session = self.session
        retry_after_memory_kills()
        tuner = tune.Tuner(
            tune.with_resources(
                tune.with_parameters(trainable, context=context),
                {"cpu": session.resources.cpus, "gpu": session.resources.gpus},
            ),
            tune_config=tune.TuneConfig(
                num_samples=num_samples,
                search_alg=self._make_generator(searcher, unfinished, scheduler),
                scheduler=scheduler,
                # A new process costs 6 to 9 s of imports; the trainable rebuilds its model in a fraction of that.
                reuse_actors=True,
                time_budget_s=self.progress.time_budget_s,
                trial_dirname_creator=name_trial_folder,
            ),
            run_config=tune.RunConfig(
                name=self.folder.name,
                **session.checkpoints.to_run_config(),
                stop={"training_iteration": self._epochs},
                callbacks=self._list_callbacks(isinstance(scheduler, RacingScheduler)),
                failure_config=tune.FailureConfig(max_failures=MAX_RETRIES),
                checkpoint_config=self._make_checkpoint_config(context),
                verbose=0,
                progress_reporter=tune.CLIReporter(),  # Tune's own for notebooks clears the cell's output
            ),
        )
        started = time.time()
        try:
            tuner.fit()
        finally:
            self._screen.close()
            self.settle()
        session.slot_time.add(self.folder, session.resources.concurrent, since=started)
        session.checkpoints.fetch(self.folder.name)

    def show_end(self) -> None:
        """Does for trials that had all ended before a stop what :meth:`fit` does after their end."""
        self._screen.follow_race()
        self.settle()

    def settle(self) -> None:
        """Delivers what waits for MLflow; says what it has not taken."""
        if waiting := self.tracking.settle():
            self.session.say(f"{waiting} records wait for MLflow in {self.session.plan.folder}")

    def _list_callbacks(self, keeps_pairs: bool) -> list[tune.Callback]:
        folder = str(self.session.plan.folder)
        # An epoch is on disk before anything else is said of it.
        log, guard = EpochLog(self.folder, keeps_pairs), StorageGuard(folder, self.session.checkpoints.probe)
        return [log, self._screen, self.tracking, guard]

    def _make_checkpoint_config(self, context: TrialContext) -> tune.CheckpointConfig:
        """Keeps the best epoch and the last one; without a validation, the last one."""
        if not self.session.plan.config.train:
            return tune.CheckpointConfig(checkpoint_at_end=False)
        best = {"checkpoint_score_attribute": self.progress.objective.metric, "checkpoint_score_order": "max"}
        return tune.CheckpointConfig(
            num_to_keep=1,
            checkpoint_frequency=1,
            checkpoint_at_end=True,
            **(best if context.scored else {}),  # type: ignore[arg-type]
        )

    def _make_generator(
        self, searcher: Searcher, unfinished: Sequence[UnfinishedTrial], scheduler: TrialScheduler | None
    ) -> TrialGenerator:
        # Tune pickles it: no session in it.
        find_kept = functools.partial(_find_kept, self.session.checkpoints, self.folder)
        pausing = scheduler if isinstance(scheduler, PromotionScheduler) else None
        return TrialGenerator(searcher, self.session.resources.concurrent, find_kept, unfinished, pausing)


def _find_kept(checkpoints: CheckpointStorage, folder: Path, trial_id: str) -> tuple[tuple[Path, Row], ...]:
    checkpoints.fetch(folder.name, trial_id)
    return clear_checkpoints(locate_trial(folder, trial_id))

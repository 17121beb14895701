"""Builds the parts of a Ray Tune run: trainable, searcher, scheduler, callbacks, checkpoints."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial
from ray import tune
from ray.tune.search import Searcher

from search.cluster.checkpoint_storage import CheckpointStorage
from search.cluster.failures import MAX_RETRIES, StorageGuard
from search.run_folder.layout import TRIALS_FOLDER
from search.run_folder.trial_folder import locate_trial, name_trial_folder
from search.space.config import SearchConfig
from search.space.parameters import list_conditions
from search.stages.session import Session
from search.study.distributions import to_distributions
from search.study.searcher import StudySearcher
from search.study.study_file import StudyFile
from search.study.trial_attributes import RAY_TRIAL_ID, read_curve
from search.tracking.callback import TrackingCallback
from search.tuning.epoch_log import EpochLog
from search.tuning.progress import SearchProgress
from search.tuning.scheduler import make_scheduler, replay_curves
from search.tuning.screen import ProgressCallback
from search.tuning.trial_generator import TrialGenerator
from search.tuning.unfinished import Row, UnfinishedTrial, clear_checkpoints
from trainables.context import TrialContext
from trainables.protocol.scores import Scores, flatten_scores
from trainables.sam2_trainable import SAM2Trainable


def _make_generator(
    session: Session, name: str, searcher: Searcher, unfinished: Sequence[UnfinishedTrial]
) -> TrialGenerator:
    # Tune pickles it: no session in it.
    find_kept = functools.partial(_find_kept, session.checkpoints, session.plan.folder, name)
    return TrialGenerator(searcher, session.resources.concurrent, find_kept, unfinished)


def _find_kept(
    checkpoints: CheckpointStorage, folder: Path, name: str, trial_id: str
) -> tuple[tuple[Path, Row], ...]:
    checkpoints.fetch(name, trial_id)
    return clear_checkpoints(locate_trial(folder / name, trial_id))


def _fit(session: Session, tuner: tune.Tuner, screen: ProgressCallback, tracking: TrackingCallback) -> None:
    try:
        tuner.fit()
    finally:
        screen.close()
        _settle(session, tracking)


def _settle(session: Session, tracking: TrackingCallback) -> None:
    if waiting := tracking.settle():
        session.say(f"MLflow could not be reached: {waiting} records wait in {session.plan.folder}")


def _make_trainable(session: Session, context: TrialContext) -> Any:
    return tune.with_resources(
        tune.with_parameters(SAM2Trainable, context=context), _list_resources(session)
    )


def _list_resources(session: Session) -> dict[str, float]:
    return {"cpu": session.resources.cpus, "gpu": session.resources.gpus}


def _make_tracking(
    session: Session, zeroshot: Scores | None, kind: str, epochs: int, trial_tags: Any = None
) -> TrackingCallback:
    return TrackingCallback(
        session.tracker,
        session.record.parent_run_id,
        flatten_scores(zeroshot, "val") if zeroshot else None,
        epochs,
        list(session.plan.store.classes.values()),
        session.tags,
        session.plan.folder,
        trial_tags=trial_tags,
        run_kind=kind,
    )


def _list_callbacks(session: Session, name: str, callbacks: Sequence[tune.Callback]) -> list[tune.Callback]:
    """Adds what every run of trials has: files of its epochs, and an end where these cannot be written."""
    folder = session.plan.folder
    return [EpochLog(folder / name), *callbacks, StorageGuard(str(folder), session.checkpoints.probe)]


def _make_screen(
    session: Session,
    zeroshot: Scores | None,
    num_trials: int,
    epochs: int,
    prefix: str,
    time_budget_s: float | None = None,
) -> ProgressCallback:
    plan, objective = session.plan, session.plan.config.objective
    progress = SearchProgress(
        num_trials,
        epochs,
        session.resources.concurrent,
        flatten_scores(zeroshot, "val")[objective.metric] if zeroshot else math.nan,
        time.monotonic(),
        time_budget_s,
        objective,
    )
    heading = f"{prefix}{plan.name} - {plan.demo_words or plan.regions.name} - protocol {plan.protocol.name}"
    return ProgressCallback(progress, heading, session.console)


def make_searcher(config: SearchConfig, study_file: StudyFile) -> StudySearcher:
    """Returns what proposes the trials of a search by its space file."""
    return StudySearcher(
        study_file,
        to_distributions(config.space),
        config.num_trials,
        max(1, config.max_epochs),
        config.objective.metrics,
        starting_points=[(point.name, point.values) for point in config.start_from[: config.num_trials]],
        conditions=list_conditions(config.space),
    )


def _make_tune_config(
    session: Session, searcher: StudySearcher, past: Sequence[FrozenTrial], unfinished: Sequence[UnfinishedTrial]
) -> tune.TuneConfig:
    config = session.plan.config
    scheduler = make_scheduler(
        config.scheduler.kind,
        config.max_epochs,
        config.scheduler.grace_period,
        config.scheduler.reduction_factor,
        config.objective.metric,
    )
    curves = {
        str(trial.user_attrs[RAY_TRIAL_ID]): {epoch: values[0] for epoch, values in read_curve(trial).items()}
        for trial in past
        if RAY_TRIAL_ID in trial.user_attrs
    }
    replay_curves(scheduler, curves, config.objective.metric)
    return tune.TuneConfig(
        num_samples=config.num_trials,
        search_alg=_make_generator(session, TRIALS_FOLDER, searcher, unfinished),
        scheduler=scheduler,
        # A new process costs 6 to 9 s of imports; the trainable rebuilds its model in a fraction of that.
        reuse_actors=True,
        time_budget_s=session.plan.time_budget_s,
        trial_dirname_creator=name_trial_folder,
    )


def _make_run_config(
    session: Session, name: str, epochs: int, callbacks: Sequence[tune.Callback], scored: bool = True
) -> tune.RunConfig:
    # The best epoch and the last one are kept; without a validation, the last one.
    metric = session.plan.config.objective.metric
    best = {"checkpoint_score_attribute": metric, "checkpoint_score_order": "max"} if scored else {}
    return tune.RunConfig(
        name=name,
        **session.checkpoints.to_run_config(),
        stop={"training_iteration": epochs},
        callbacks=_list_callbacks(session, name, callbacks),
        failure_config=tune.FailureConfig(max_failures=MAX_RETRIES),
        checkpoint_config=tune.CheckpointConfig(
            num_to_keep=1,
            checkpoint_frequency=1,
            checkpoint_at_end=True,
            **best,  # type: ignore[arg-type]
        ),
        verbose=0,
    )

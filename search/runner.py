"""Builds the Ray Tune run of a search and runs it: sampler, scheduler, callbacks, checkpoints."""

from __future__ import annotations

import functools
import time

from ray import tune
from ray.tune.logger import JsonLoggerCallback

from search.progress import ProgressCallback, SearchProgress
from search.record import TRIALS_FOLDER, make_study_file
from search.results import find_starting_point, name_trial_folder
from search.sampler import StudySearcher
from search.scheduler import make_scheduler
from search.session import Session
from search.space import to_distributions
from search.study import StudyFile
from search.tune_callback import TrackingCallback
from trainables.evaluate import Scores
from trainables.sam2_trainable import SAM2Trainable, flatten_scores


def run_trials(session: Session, zeroshot: Scores) -> None:
    """Runs all trials; what came of them lies in the study, the trials' folders and MLflow."""
    study_file = make_study_file(session.plan.folder, session.record)
    screen = _make_screen(session, zeroshot)
    tracking = TrackingCallback(
        session.tracker,
        session.record.parent_run_id,
        flatten_scores(zeroshot, "val"),
        session.plan.config.max_epochs,
        list(session.plan.store.classes.values()),
        session.tags,
        session.plan.folder,
        trial_tags=functools.partial(find_starting_point, study_file),
    )
    tuner = tune.Tuner(
        tune.with_resources(
            tune.with_parameters(SAM2Trainable, context=session.context),
            {"cpu": session.resources.cpus, "gpu": session.resources.gpus},
        ),
        tune_config=_make_tune_config(session, study_file),
        run_config=_make_run_config(session, [screen, tracking, _make_result_logger()]),
    )
    try:
        tuner.fit()
    finally:
        screen.close()
        waiting = tracking.settle()
    if waiting:
        session.say(f"MLflow could not be reached: {waiting} records wait in {session.plan.folder}")


def _make_result_logger() -> JsonLoggerCallback:
    """Keeps each trial's epochs in ``result.json``: without it Tune remembers the last one only."""
    return JsonLoggerCallback()  # type: ignore[no-untyped-call]


def _make_screen(session: Session, zeroshot: Scores) -> ProgressCallback:
    plan = session.plan
    progress = SearchProgress(
        plan.config.num_trials,
        plan.config.max_epochs,
        session.resources.concurrent,
        zeroshot.dice,
        time.monotonic(),
        plan.time_budget_s,
    )
    heading = f"{plan.name} - {plan.demo_words or plan.regions.name} - protocol {plan.protocol.name}"
    return ProgressCallback(progress, heading, session.console)


def _make_tune_config(session: Session, study_file: StudyFile) -> tune.TuneConfig:
    config = session.plan.config
    searcher = StudySearcher(
        study_file,
        to_distributions(config.space),
        config.num_trials,
        config.max_epochs,
        starting_points=[(point.name, point.values) for point in config.start_from[: config.num_trials]],
    )
    scheduler = make_scheduler(
        config.scheduler.kind,
        config.max_epochs,
        config.scheduler.grace_period,
        config.scheduler.reduction_factor,
    )
    return tune.TuneConfig(
        num_samples=config.num_trials,
        search_alg=searcher,
        scheduler=scheduler,
        max_concurrent_trials=session.resources.concurrent,
        # A new process costs 6 to 9 s of imports; the trainable rebuilds its model in a fraction of that.
        reuse_actors=True,
        time_budget_s=session.plan.time_budget_s,
        trial_dirname_creator=name_trial_folder,
    )


def _make_run_config(session: Session, callbacks: list[tune.Callback]) -> tune.RunConfig:
    return tune.RunConfig(
        name=TRIALS_FOLDER,
        storage_path=str(session.plan.folder),
        stop={"training_iteration": session.plan.config.max_epochs},
        callbacks=callbacks,
        # The best epoch and the last one are kept.
        checkpoint_config=tune.CheckpointConfig(
            num_to_keep=1,
            checkpoint_score_attribute="val_dice",
            checkpoint_score_order="max",
            checkpoint_frequency=1,
            checkpoint_at_end=True,
        ),
        verbose=0,
    )

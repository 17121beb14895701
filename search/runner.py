"""Builds the Ray Tune runs of a search and runs them: sampler, scheduler, callbacks, checkpoints."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial
from ray import tune
from ray.tune.search import Searcher

from search.checkpoint_storage import CheckpointStorage
from search.config import SearchConfig
from search.epoch_log import EpochLog
from search.failures import MAX_RETRIES, StorageGuard
from search.list_searcher import ListSearcher
from search.listed_trials import ListedTrial, is_same_training, read_listed
from search.progress import ProgressCallback, SearchProgress
from search.record import TRIALS_FOLDER, make_study_file
from search.results import (
    find_starting_point,
    locate_trial,
    name_trial_folder,
    read_epochs,
    read_trial_id,
    read_trials,
)
from search.sampler import RAY_TRIAL_ID, REASON, StudySearcher, read_curve
from search.scheduler import make_scheduler, replay_curves
from search.session import Session
from search.space import list_conditions, to_distributions
from search.study import StudyFile, undo_torn_lines
from search.trial_generator import TrialGenerator
from search.tune_callback import TrackingCallback
from search.unfinished import (
    Row,
    UnfinishedTrial,
    clear_checkpoints,
    list_decided,
    list_unfinished,
    list_unfinished_listed,
)
from trainables.context import TrialContext
from trainables.protocol import Protocol
from trainables.protocol_fields import change_protocol
from trainables.protocol_trainable import ProtocolTrainable
from trainables.recipe import Scalar
from trainables.sam2_trainable import SAM2Trainable, flatten_scores
from trainables.scores import Scores


def run_trials(session: Session, zeroshot: Scores) -> None:
    """Runs the trials of the search; what came of them lies in the study, the trials' folders and MLflow."""
    config = session.plan.config
    study_file = make_study_file(session.plan.folder, session.record)
    screen = _make_screen(
        session, zeroshot, config.num_trials, config.max_epochs, "", session.plan.time_budget_s
    )
    starting_point = functools.partial(find_starting_point, study_file)
    tracking = _make_tracking(session, zeroshot, "trial", config.max_epochs, starting_point)
    searcher = make_searcher(config, study_file)
    past = _read_past(session, study_file, searcher)
    unfinished = list_unfinished(past, session.plan.folder / TRIALS_FOLDER)
    _take_up(session, past, unfinished, screen.progress, tracking)
    tuner = tune.Tuner(
        _make_trainable(session, session.context),
        tune_config=_make_tune_config(session, searcher, past, unfinished),
        run_config=_make_run_config(session, TRIALS_FOLDER, config.max_epochs, [screen, tracking]),
    )
    _fit(session, tuner, screen, tracking)
    session.checkpoints.fetch(TRIALS_FOLDER)


def run_protocols(session: Session) -> None:
    """Runs the trials of a search that trains nothing: zero-shot, each trial under a protocol of its own."""
    config = session.plan.config
    study_file = make_study_file(session.plan.folder, session.record)
    screen = _make_screen(session, None, config.num_trials, 1, "", session.plan.time_budget_s)
    tags = functools.partial(find_protocol_tags, study_file, session.context.protocol, config.fixed)
    tracking = _make_tracking(session, None, "trial", 1, tags)
    searcher = make_searcher(config, study_file)
    past = _read_past(session, study_file, searcher)
    unfinished = list_unfinished(past, session.plan.folder / TRIALS_FOLDER, keeps_checkpoints=False)
    _take_up(session, past, unfinished, screen.progress, tracking)
    trainable = tune.with_parameters(ProtocolTrainable, context=session.context)
    tuner = tune.Tuner(
        tune.with_resources(trainable, _list_resources(session)),
        tune_config=_make_tune_config(session, searcher, past, unfinished),
        run_config=tune.RunConfig(
            name=TRIALS_FOLDER,
            **session.checkpoints.to_run_config(),
            stop={"training_iteration": 1},
            callbacks=_list_callbacks(session, TRIALS_FOLDER, [screen, tracking]),
            failure_config=tune.FailureConfig(max_failures=MAX_RETRIES),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),  # there is nothing to keep
            verbose=0,
        ),
    )
    _fit(session, tuner, screen, tracking)


def find_protocol_tags(
    study_file: StudyFile, base: Protocol, fixed: Mapping[str, Scalar], trial_id: str
) -> dict[str, str]:
    """Returns the tags of a trial that has a protocol of its own: the protocol's name and id, and the point's name."""
    tags = find_starting_point(study_file, trial_id)
    for trial in read_trials(study_file):
        if trial.user_attrs.get(RAY_TRIAL_ID) == trial_id:
            protocol = change_protocol(base, {**fixed, **trial.params})
            tags |= {"protocol": protocol.name, "protocol_id": protocol.id}
    return tags


def run_listed(
    session: Session,
    zeroshot: Scores,
    configs: Sequence[Mapping[str, Any]],
    kind: str,
    context: TrialContext | None = None,
    epochs: int | None = None,
) -> list[ListedTrial]:
    """Trains known configurations to their end, none stopped early.

    Args:
        session: The search.
        zeroshot: Its bar on validation.
        configs: Whole recipes by flat names, each with ``seed`` and ``from_trial``.
        kind: Names the folder of these trials and their kind in MLflow: ``confirmation`` or ``refit``.
        context: What they train and validate on; None for what the search's own trials did.
        epochs: After how many they end; None for the search's number, which the schedule spans anyway.

    Returns:
        One a configuration that was started, now or before a stop; those that ended before it are not trained again.
    """
    epochs = epochs or session.plan.config.max_epochs
    screen = _make_screen(session, zeroshot, len(configs), epochs, f"{kind} - ")
    tracking = _make_tracking(session, zeroshot, kind, epochs)
    folder = session.plan.folder / kind
    if session.is_resumed:
        session.checkpoints.fetch(kind)
    unfinished = list_unfinished_listed(folder, epochs)
    begun = read_listed(folder)
    new = [config for config in configs if not any(is_same_training(config, each.config) for each in begun)]
    going_on = {
        trial_id: trial
        for trial_id, (trial, config) in unfinished.items()
        if any(is_same_training(config, each) for each in configs)
    }
    for each in begun:  # a stop may have come between a trial's last checkpoint and its end in MLflow
        if session.is_resumed and read_trial_id(each.folder) not in unfinished:
            tracking.end_trial(read_trial_id(each.folder), each.failure)
    if not new and not going_on:
        _settle(session, tracking)
        return begun
    searcher = ListSearcher(new, {trial_id: unfinished[trial_id][1] for trial_id in going_on})
    tune_config = tune.TuneConfig(
        num_samples=len(new) + len(going_on),
        search_alg=_make_generator(session, kind, searcher, list(going_on.values())),
        reuse_actors=True,
        trial_dirname_creator=name_trial_folder,
    )
    tuner = tune.Tuner(
        _make_trainable(session, context or session.context),
        tune_config=tune_config,
        run_config=_make_run_config(session, kind, epochs, [screen, tracking], scored=context is None),
    )
    _fit(session, tuner, screen, tracking)
    session.checkpoints.fetch(kind)
    return read_listed(folder)


def _read_past(session: Session, study_file: StudyFile, searcher: StudySearcher) -> list[FrozenTrial]:
    """Returns the trials that a stopped search has, each with its end where that had been decided."""
    if not session.is_resumed:
        return []
    undo_torn_lines(study_file.journal)  # an end that was being told comes again
    past = read_trials(study_file)
    if not past:
        return []
    session.checkpoints.fetch(TRIALS_FOLDER)
    decided = list_decided(past, session.plan.folder / TRIALS_FOLDER)
    for trial_id, report in decided.items():
        searcher.on_trial_complete(trial_id, report)
    return read_trials(study_file) if decided else past


def _take_up(
    session: Session,
    past: Sequence[FrozenTrial],
    unfinished: Sequence[UnfinishedTrial],
    progress: SearchProgress,
    tracking: TrackingCallback,
) -> None:
    """Gives the trials that have ended their row on the screen, and their end in MLflow; the others find their run."""
    folder = session.plan.folder / TRIALS_FOLDER
    going_on = {trial.trial_id for trial in unfinished}
    for each in unfinished:
        session.track(functools.partial(tracking.take_up, each.trial_id))
    for trial in past:
        trial_id = trial.user_attrs.get(RAY_TRIAL_ID)
        if trial_id is not None and trial.state.is_finished() and trial_id not in going_on:
            tracking.end_trial(trial_id, str(trial.user_attrs.get(REASON, "")))
            progress.add_ended(trial_id, trial, read_epochs(locate_trial(folder, trial_id)))


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

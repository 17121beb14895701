"""Builds the Ray Tune runs of a search and runs them: sampler, scheduler, callbacks, checkpoints."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from optuna.trial import FrozenTrial
from ray import tune

from search.cluster.failures import MAX_RETRIES
from search.run_folder.layout import TRIALS_FOLDER
from search.run_folder.trial_folder import (
    ListedTrial,
    is_same_training,
    locate_trial,
    name_trial_folder,
    read_epochs,
    read_listed,
    read_trial_id,
)
from search.stages.session import Session
from search.stages.tuner import (
    _fit,
    _list_callbacks,
    _list_resources,
    _make_generator,
    _make_run_config,
    _make_screen,
    _make_tracking,
    _make_trainable,
    _make_tune_config,
    _settle,
    make_searcher,
)
from search.study.journal import undo_torn_lines
from search.study.searcher import StudySearcher
from search.study.study_file import StudyFile, make_study_file
from search.study.trial_attributes import RAY_TRIAL_ID, REASON, find_starting_point, read_trials
from search.tracking.callback import TrackingCallback
from search.tuning.progress import SearchProgress
from search.tuning.trial_generator import ListSearcher
from search.tuning.unfinished import UnfinishedTrial, list_decided, list_unfinished, list_unfinished_listed
from trainables.context import TrialContext
from trainables.protocol.fields import change_protocol
from trainables.protocol.scores import Scores
from trainables.protocol.spec import Protocol
from trainables.protocol_trainable import ProtocolTrainable
from trainables.recipe import Scalar


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

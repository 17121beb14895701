"""Runs the trials of a search, those of known configurations, and those that train nothing."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial
from ray.tune.schedulers import TrialScheduler

from search.run_folder.layout import TRIALS_FOLDER
from search.run_folder.trial_folder import (
    ListedTrial,
    locate_trial,
    read_epochs,
    read_listed,
    read_pairs,
    read_trial_id,
)
from search.space.config import SearchConfig
from search.stages.session import Session
from search.stages.tune_run import TuneRun
from search.study.journal import undo_torn_lines
from search.study.searcher import StudySearcher
from search.study.study_file import StudyFile, make_study_file
from search.study.trial_attributes import (
    RAY_TRIAL_ID,
    REASON,
    RETRY_OF,
    TrialFinder,
    name_origin,
    name_state,
    read_all_trials,
    read_curve,
    read_trials,
)
from search.tuning.scheduler import make_scheduler, replay_results
from search.tuning.seed_race import SeedRace
from search.tuning.trial_generator import ListSearcher
from search.tuning.unfinished import UnfinishedTrial, list_decided, list_unfinished, list_unfinished_listed
from trainables.context import PAIRS, TrialContext
from trainables.protocol.fields import change_protocol
from trainables.protocol.scores import Scores
from trainables.protocol.spec import Protocol
from trainables.protocol_trainable import ProtocolTrainable
from trainables.recipe import Scalar
from trainables.sam2_trainable import SAM2Trainable


def find_protocol_tags(
    finder: TrialFinder, base: Protocol, fixed: Mapping[str, Scalar], trial_id: str
) -> dict[str, str]:
    """Returns the tags of a trial that has a protocol of its own: the protocol's name and id, and the point's name."""
    trial = finder.find(trial_id)
    if trial is None:
        return {}
    protocol = change_protocol(base, {**fixed, **trial.params})
    return {**finder.find_origin(trial_id), "protocol": protocol.name, "protocol_id": protocol.id}


def run_listed(
    session: Session,
    zeroshot: Scores,
    configs: Sequence[Mapping[str, Any]],
    kind: str,
    context: TrialContext | None = None,
    epochs: int | None = None,
    race: SeedRace | None = None,
) -> list[ListedTrial]:
    """Trains known configurations to their end, none stopped early.

    Args:
        session: The search.
        zeroshot: Its bar on validation.
        configs: Whole recipes by flat names, each with ``seed`` and ``from_trial``.
        kind: Names the folder of these trials and their kind in MLflow: ``confirmation`` or ``refit``.
        context: What they train and validate on; None for what the search's own trials did.
        epochs: After how many they end; None for the search's number, which the schedule spans anyway.
        race: Decides which of the configurations are trained; None for all, in their order.

    Returns:
        One a configuration that was started, now or before a stop; those that ended before it are not trained again,
        those that it interrupted go on first.
    """
    epochs = epochs or session.plan.config.max_epochs
    tags = TrialFinder(make_study_file(session.plan.folder, session.record)).find_origin
    run = TuneRun(session, kind, len(configs), epochs, zeroshot, tags, race)
    if session.is_resumed:
        session.checkpoints.fetch(kind)
    begun = {read_trial_id(each.folder): each for each in read_listed(run.folder)}
    unfinished = list_unfinished_listed(begun, epochs)
    for trial_id in begun.keys() - unfinished.keys():
        # A stop may have come between a trial's last checkpoint and its end in MLflow.
        run.tracking.end_trial(trial_id, begun[trial_id].failure)
    asked = {trial_id: each for trial_id, each in begun.items() if each.config in configs}
    new = [config for config in configs if all(config != each.config for each in asked.values())]
    first = {trial_id: unfinished[trial_id] for trial_id in asked if trial_id in unfinished}
    ended = asked.keys() - first.keys()
    for trial_id in sorted(ended):
        state = "failed" if asked[trial_id].failure else "complete"
        run.progress.add_ended(trial_id, asked[trial_id].config, state, read_epochs(asked[trial_id].folder))
    searcher = ListSearcher(new, {trial_id: asked[trial_id].config for trial_id in first}, race, ended)
    if first or searcher.find_next() is not None:
        whole = dataclasses.replace(context or session.context, patience=0)
        run.fit(SAM2Trainable, whole, searcher, len(first) + len(new), list(first.values()))
    else:
        run.show_end()
    return read_listed(run.folder)


def make_searcher(config: SearchConfig, study_file: StudyFile) -> StudySearcher:
    """Returns what proposes the trials of a search by its space file."""
    epochs, metrics = max(1, config.max_epochs), config.objective.metrics
    return StudySearcher(study_file, config.space, config.num_trials, epochs, metrics, config.start_from, config.stop)


def run_trials(session: Session, zeroshot: Scores | None) -> None:
    """Runs the trials that the study proposes, or what of them a stop has left to do.

    What comes of them lies in the study, the trials' folders and MLflow. In a search that trains nothing they are
    zero-shot, each under a protocol of its own, and there is no bar for all of them.
    """
    config, study_file = session.plan.config, make_study_file(session.plan.folder, session.record)
    finder, trainable = TrialFinder(study_file), SAM2Trainable if config.train else ProtocolTrainable
    tags: Callable[[str], Mapping[str, str]] = finder.find_origin
    if not config.train:
        tags = functools.partial(find_protocol_tags, finder, session.context.protocol, config.fixed)
    run = TuneRun(session, TRIALS_FOLDER, config.num_trials, max(1, config.max_epochs), zeroshot, tags)
    searcher = make_searcher(config, study_file)
    past = _read_past(session, study_file, searcher)
    unfinished = list_unfinished(past, run.folder, keeps_checkpoints=config.train)
    _report_past(run, past, unfinished)
    imported = read_all_trials(study_file)[1] if session.record.warm_start else []
    scheduler = _make_scheduler(config, [*imported, *past], run.folder, session.resources.concurrent)
    run.fit(trainable, session.context, searcher, config.num_trials, unfinished, scheduler)
    if config.stop and searcher.ended_early():
        rise = f"by more than {config.stop.min_gain:g} " if config.stop.min_gain else ""
        why = f"the best value has not risen {rise}over the last {config.stop.patience_trials} trials"
        session.say(f"no more of the {config.num_trials} trials are started: {why} (stop, in the space)")


def _read_past(session: Session, study_file: StudyFile, searcher: StudySearcher) -> list[FrozenTrial]:
    """Returns the trials that a stopped search has, each with its end where that had been decided."""
    if not session.is_resumed:
        return []
    undo_torn_lines(study_file.journal)  # an end that was half written comes again
    past = read_trials(study_file)
    if not past:
        return []
    session.checkpoints.fetch(TRIALS_FOLDER)
    for trial_id, report in list_decided(past, session.plan.folder / TRIALS_FOLDER).items():
        searcher.on_trial_complete(trial_id, report)
    if session.plan.options.retry_failed:
        searcher.retry_failed()
    return read_trials(study_file)


def _report_past(run: TuneRun, past: Sequence[FrozenTrial], unfinished: Sequence[UnfinishedTrial]) -> None:
    """Restores ended trials to the table and closes their MLflow runs; unfinished ones reattach to theirs."""
    going_on, retried = {trial.trial_id for trial in unfinished}, {trial.user_attrs.get(RETRY_OF) for trial in past}
    for each in unfinished:
        run.session.track(functools.partial(run.tracking.take_up, each.trial_id))
    for trial in past:
        trial_id = trial.user_attrs.get(RAY_TRIAL_ID)
        if trial_id is not None and trial.state.is_finished() and trial_id not in going_on:
            run.tracking.end_trial(trial_id, str(trial.user_attrs.get(REASON, "")))
            if trial_id in retried:
                continue  # its place in the table is that of the trial that tries it again
            epochs = read_epochs(locate_trial(run.folder, trial_id))
            run.progress.add_ended(trial_id, trial.params, name_state(trial), epochs)


def _make_scheduler(
    config: SearchConfig, past: Sequence[FrozenTrial], trials_folder: Path, concurrent: int
) -> TrialScheduler:
    """Returns the space file's scheduler, which has seen what trials of earlier searches and before a stop reported."""
    metric = config.objective.metric
    scheduler = make_scheduler(config.scheduler, config.max_epochs, metric, concurrent)
    results = {}
    for trial in past:
        if trial_id := name_origin(trial):
            folder, curve = locate_trial(trials_folder, trial_id), read_curve(trial)
            rows, pairs = read_epochs(folder), read_pairs(folder)
            # The study decides which epochs there are.
            results[trial_id] = {
                epoch: {**rows.get(epoch, {}), PAIRS: pairs.get(epoch, ()), metric: values[0]}
                for epoch, values in curve.items()
            }
    replay_results(scheduler, results)
    return scheduler

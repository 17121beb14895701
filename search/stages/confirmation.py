"""Trains the best configurations of a search again with several seeds, and chooses what is exported.

The best of many trials on few regions is partly luck. New seeds show how much: the mean over seeds compares
configurations, and chooses the scale of the update (WiSE-FT, Wortsman et al. 2022, arXiv 2109.01903), with zero-shot
among the scales. Everything goes by the search's objective, on validation alone.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from search.cluster.workers import map_with_resources
from search.errors import SearchError
from search.run_folder.chosen import Chosen
from search.run_folder.finalists import Finalist, SeedRun, choose_finalist, choose_scale, write_finalists
from search.run_folder.layout import CHOSEN_FILE
from search.run_folder.trial_folder import ListedTrial, is_same_training, list_checkpoint_folders, read_best_epoch
from search.space.objective import DICE, Objective
from search.stages.session import Session
from search.stages.trials import run_listed
from search.study.ranking import RankedTrial, read_chosen
from search.study.trial_attributes import FROM_TRIAL
from trainables.adapters.interpolation import SCALES
from trainables.context import SEED_KEY
from trainables.evaluation.candidates import score_scales
from trainables.protocol.scores import Scores, flatten_scores, join_scores

CONFIRMATION = "confirmation"
REFIT = "refit"
_DICE = Objective()


def choose_on_validation(session: Session, ranked: Sequence[RankedTrial], zeroshot: Scores) -> Chosen:
    """Confirms the best trials, scales the best of them, and returns and writes what was chosen.

    The trials that have a checkpoint, at least one, come best first.

    Raises:
        SearchError: If no finalist could be trained with every seed.
    """
    plan = session.plan
    if session.is_resumed and (plan.folder / CHOSEN_FILE).is_file():
        return read_chosen(plan.folder, session.record)  # the search had come further
    finalists = _confirm(session, ranked, zeroshot)
    write_finalists(plan.folder, finalists, plan.protocol.id)
    best = _measure_scales(session, choose_finalist(finalists))
    compared = [best if each.trial_id == best.trial_id else each for each in finalists]
    write_finalists(plan.folder, compared, plan.protocol.id)
    scale = choose_scale(best.average_scores())
    _print_scales(session, best, scale)
    n_finalists = len(finalists) if plan.options.confirm else 0
    chosen = Chosen.from_finalist(best, scale, n_finalists, plan.protocol.id, plan.folder)
    if session.context.folds:
        chosen = _refit(session, chosen, best, zeroshot)
    chosen.write(plan.folder)
    return chosen


def _confirm(session: Session, ranked: Sequence[RankedTrial], zeroshot: Scores) -> list[Finalist]:
    plan = session.plan
    if not plan.options.confirm:
        return [ranked[0].to_finalist(plan.options.seed)]
    finalists, seeds = ranked[: plan.options.confirm], list_seeds(plan.options.seed, plan.options.confirm_seeds)
    session.say(
        f"confirming the best {len(finalists)} configurations with {len(seeds)} new seeds each "
        f"({', '.join(map(str, seeds))}) ..."
    )
    configs = [{**each.params, SEED_KEY: seed, FROM_TRIAL: each.trial_id} for each in finalists for seed in seeds]
    trials = run_listed(session, zeroshot, configs, CONFIRMATION)
    objective = plan.config.objective
    confirmed = [gather_finalist(each, seeds, trials, objective) for each in finalists]
    for finalist in confirmed:
        session.say(f"  {_describe(finalist, zeroshot.dice, objective)}")
    return confirmed


def list_seeds(seed: int, number: int) -> list[int]:
    """Returns the seeds of confirmations: those after the search's own, which chose the finalists."""
    return [(seed + 1 + index) % 2**32 for index in range(number)]


def gather_finalist(
    winner: RankedTrial, seeds: Sequence[int], trials: Sequence[ListedTrial], objective: Objective = _DICE
) -> Finalist:
    """Collects a finalist's trainings from the trials that ran."""
    mine = {trial.config[SEED_KEY]: trial for trial in trials if trial.config.get(FROM_TRIAL) == winner.trial_id}
    runs = tuple(_read_run(seed, mine.get(seed), objective) for seed in seeds)
    return Finalist(winner.trial_id, winner.val_dice, winner.params, runs)


def _read_run(seed: int, trial: ListedTrial | None, objective: Objective) -> SeedRun:
    if trial is None:
        return SeedRun(seed, "", 0, float("nan"), "was not started")
    best = read_best_epoch(trial.folder, objective.metric)
    if trial.failure or best is None:
        return SeedRun(seed, "", 0, float("nan"), trial.failure or "left no checkpoint")
    value = None if objective.metric == DICE else best.value
    return SeedRun(seed, str(best.path), best.epoch, best.val_dice, value=value)


def _describe(finalist: Finalist, bar: float, objective: Objective) -> str:
    if not finalist.is_complete:
        failed = "; ".join(f"seed {run.seed}: {run.failure}" for run in finalist.runs if run.failure)
        return f"trial {finalist.trial_id}: out, {failed}"
    dice = ", ".join(f"{run.val_dice:.3f}" for run in finalist.runs)
    mean = f"{finalist.mean_dice:.3f} +/- {finalist.std_dice:.3f}"
    score = "" if objective.metric == DICE else f"mean {objective.label} {finalist.mean_score:.3f}, "
    return (
        f"trial {finalist.trial_id}: {score}val Dice {mean} over seeds ({dice}), "
        f"{finalist.mean_dice - bar:+.3f} against zero-shot; {finalist.search_dice:.3f} in the search"
    )


def _measure_scales(session: Session, finalist: Finalist) -> Finalist:
    """Scores every seed's checkpoint at every scale, on the validation regions of its folds."""
    # Class prompts have no zero-shot end from which to be scaled.
    scales = (1.0,) if session.context.protocol.is_auto else SCALES
    which = "several scales of its update (0 is zero-shot)" if len(scales) > 1 else "scale 1"
    session.say(f"scoring the best configuration at {which} ...")
    folds, metric = session.context.list_folds(), session.plan.config.objective.metric
    calls = [
        (session.context, session.context.locate_fold(Path(run.checkpoint), index), fold.val, scales)
        for run in finalist.runs
        for index, fold in enumerate(folds)
    ]
    found = iter(map_with_resources(session.resources, "scores of the scales", score_scales, calls))
    runs = []
    for run in finalist.runs:
        parts = [next(found) for _ in folds]
        joined = {scale: flatten_scores(join_scores([part[scale] for part in parts]), "val") for scale in parts[0]}
        by_scale = {scale: figures[DICE] for scale, figures in joined.items()}
        values = {} if metric == DICE else {scale: figures[metric] for scale, figures in joined.items()}
        runs.append(dataclasses.replace(run, by_scale=by_scale, value_by_scale=values))
    return dataclasses.replace(finalist, runs=tuple(runs))


def _print_scales(session: Session, best: Finalist, scale: float) -> None:
    figures = ", ".join(f"{each:g}: {score:.3f}" for each, score in best.average_scores().items())
    session.say(f"  mean {session.plan.config.objective.label} by scale: {figures}; chosen: {scale:g}")
    if set(best.average_scales()) == {0.0, 1.0}:
        session.say("  what was trained cannot be merged into SAM2's weights: there is no scale in between")
    if scale == 0:
        session.say("  no scale of the update beats zero-shot on validation: the export is zero-shot itself")


def _refit(session: Session, chosen: Chosen, best: Finalist, zeroshot: Scores) -> Chosen:
    """Trains the chosen configuration on all folds' regions together, as long as was best in cross-validation."""
    context = session.context
    pool = tuple(sorted({*context.train, *context.val}))
    epochs = round(float(np.median([run.epoch for run in best.runs])))
    session.say(f"training the chosen configuration on all {len(pool)} regions for {epochs} epochs ...")
    config: dict[str, Any] = {**chosen.params, SEED_KEY: chosen.seed, FROM_TRIAL: chosen.trial_id}
    whole = dataclasses.replace(context, train=pool, val=(), folds=())
    trials = run_listed(session, zeroshot, [config], REFIT, whole, epochs)
    trial = next((each for each in trials if is_same_training(each.config, config)), None)
    checkpoints = [path for _, path in list_checkpoint_folders(trial.folder)] if trial else []
    if trial is None or trial.failure or not checkpoints:
        why = (trial.failure or "it left no checkpoint") if trial else "it was not started"
        raise SearchError(f"the refit on all regions failed: {why}")
    # The refit is none of the seeds' trainings: their mean is its best estimate.
    curve, scores = best.average_scales(), best.average_scores()
    return dataclasses.replace(
        chosen,
        val_dice=curve[chosen.scale],
        val_dice_at_1=curve[1.0],
        objective_value=None if chosen.objective_value is None else scores[chosen.scale],
        checkpoint=checkpoints[-1].relative_to(session.plan.folder).as_posix(),
        epoch=epochs,
        refit=True,
    )

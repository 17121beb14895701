"""Trains the best configurations of a search again with several seeds, and chooses what is exported.

The best of many trials on few regions is partly luck. New seeds show how much: they race, and the best starting point
races with them. The mean over seeds compares configurations, and chooses the scale of the update (WiSE-FT, Wortsman et
al. 2022, arXiv 2109.01903), with zero-shot among the scales. Soups of the trainings then contend with the best one.
Everything goes by the search's objective, on validation alone.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from search.cluster.workers import call_with_resources, map_with_resources
from search.errors import SearchError
from search.run_folder.chosen import Chosen, describe_training
from search.run_folder.contenders import GREEDY, SEEDS, SINGLE, Contender, choose_contender, choose_scale
from search.run_folder.finalists import Finalist, SeedRun, choose_finalist, write_finalists
from search.run_folder.layout import CHOSEN_FILE, SOUPS_FOLDER
from search.run_folder.trial_folder import list_checkpoint_folders
from search.space.objective import DICE, Objective
from search.stages.session import Session
from search.stages.trials import run_listed
from search.study.ranking import RankedTrial, pick_finalists, read_chosen
from search.study.trial_attributes import FROM_TRIAL
from search.tuning.seed_race import SeedRace
from trainables.adapters.scales import SCALES
from trainables.context import SEED_KEY
from trainables.evaluation.candidates import score_scales
from trainables.evaluation.greedy_soup import grow_soup
from trainables.evaluation.soup_folder import find_why_no_soup, write_soup
from trainables.protocol.scores import Scores, flatten_scores, join_scores

CONFIRMATION = "confirmation"
REFIT = "refit"


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
    best = _measure_scales(session, choose_finalist(finalists), zeroshot)
    compared = [best if each.trial_id == best.trial_id else each for each in finalists]
    scale = choose_scale(best.average_scores())
    _print_scales(session, best, scale)
    n_finalists = len(finalists) if plan.options.confirm else 0
    chosen = Chosen.from_finalist(best, scale, n_finalists, plan.protocol.id, plan.folder)
    contenders = list_contenders(session, chosen, compared)
    write_finalists(plan.folder, compared, plan.protocol.id, contenders)
    chosen = chosen.replace_by(choose_contender(contenders))
    if not chosen.scale:
        session.say("  no scale of the update beats zero-shot on validation: the export is zero-shot itself")
    if session.context.folds:
        chosen = _refit(session, chosen, best, zeroshot)
    chosen.write(plan.folder)
    return chosen


def _confirm(session: Session, ranked: Sequence[RankedTrial], zeroshot: Scores) -> list[Finalist]:
    plan = session.plan
    if not plan.options.confirm:
        return [ranked[0].to_finalist(ranked[0].to_run(plan.options.seed))]
    finalists = pick_finalists(ranked, plan.options.confirm)
    seeds = list_seeds(plan.options.seed, plan.options.confirm_seeds)
    races = len(finalists) > 1 and len(seeds) > 1
    n_best = sum(each in ranked[: plan.options.confirm] for each in finalists)
    which = "configuration" if n_best == 1 else f"{n_best} configurations"
    which += f" and the starting point {finalists[-1].starting_point}" * (n_best < len(finalists))
    session.say(
        f"confirming the best {which} with {'up to ' * races}{len(seeds)} new seeds each "
        f"({', '.join(map(str, seeds))}) ..."
    )
    confirmed = _race(session, finalists, seeds, zeroshot)
    for finalist in confirmed:
        session.say(f"  {_describe(finalist, zeroshot.dice, plan.config.objective)}")
    n_spent, n_most = sum(len(finalist.runs) for finalist in confirmed), len(finalists) * len(seeds)
    if races:
        session.say(f"  {n_spent} of at most {n_most} trainings were needed")
    return confirmed


def _race(session: Session, ranked: Sequence[RankedTrial], seeds: Sequence[int], zeroshot: Scores) -> list[Finalist]:
    """Trains configurations with seeds as long as they can still win; what ended before a stop is not trained again."""
    plan = session.plan
    race = SeedRace(
        [each.to_finalist() for each in ranked],
        seeds,
        plan.config.objective,
        session.resources.concurrent,
        plan.folder / CONFIRMATION,
        session.checkpoints,
    )
    run_listed(session, zeroshot, race.configs, CONFIRMATION, race=race)
    return race.read_end()


def list_seeds(seed: int, number: int) -> list[int]:
    """Returns the seeds of confirmations: those after the search's own, which chose the finalists."""
    return [(seed + 1 + index) % 2**32 for index in range(number)]


def _describe(finalist: Finalist, bar: float, objective: Objective) -> str:
    if not finalist.is_complete:
        failed = "; ".join(f"seed {run.seed}: {run.failure}" for run in finalist.runs if run.failure)
        return f"{finalist.name}: out, {failed}"
    dice = ", ".join(f"{run.val_dice:.3f}" for run in finalist.runs)
    mean = f"{finalist.mean_dice:.3f} +/- {finalist.std_dice:.3f}"
    score = "" if objective.metric == DICE else f"mean {objective.label} {finalist.mean_score:.3f}, "
    return (
        f"{finalist.name}{', out early' * bool(finalist.out)}: {score}val Dice {mean} over seeds ({dice}), "
        f"{finalist.mean_dice - bar:+.3f} against zero-shot; {finalist.search_dice:.3f} in the search"
    )


def _measure_scales(session: Session, finalist: Finalist, zeroshot: Scores) -> Finalist:
    """Scores every seed's checkpoint at every scale, on the validation regions of its folds; at 0 it is zero-shot."""
    # Class prompts have no zero-shot end from which to be scaled.
    scales = (1.0,) if session.context.protocol.is_auto else SCALES
    which = "several scales of its update (0 is zero-shot)" if len(scales) > 1 else "scale 1"
    session.say(f"scoring the best configuration at {which} ...")
    folds, metric = session.context.list_folds(), session.plan.config.objective.metric
    candidates = [
        (session.context.locate_fold(Path(run.checkpoint), index), fold.val)
        for run in finalist.runs
        for index, fold in enumerate(folds)
    ]
    found = iter(_score_candidates(session, "scores of the scales", candidates, [each for each in scales if each]))
    at_zero = {0.0: flatten_scores(zeroshot, "val")} if 0.0 in scales else {}
    runs = []
    for run in finalist.runs:
        parts = [next(found) for _ in folds]
        joined = {scale: flatten_scores(join_scores([part[scale] for part in parts]), "val") for scale in parts[0]}
        joined = {**at_zero, **joined}
        by_scale = {scale: figures[DICE] for scale, figures in joined.items()}
        values = {} if metric == DICE else {scale: figures[metric] for scale, figures in joined.items()}
        runs.append(dataclasses.replace(run, by_scale=by_scale, value_by_scale=values))
    return dataclasses.replace(finalist, runs=tuple(runs))


def _score_candidates(
    session: Session, what: str, candidates: Sequence[tuple[Path, Sequence[str]]], scales: Sequence[float]
) -> list[dict[float, Scores]]:
    """Scores checkpoints, each on its own regions, at several scales, which are divided so that no slot is idle."""
    n_slots = session.resources.concurrent
    # Twice as many parts as slots, as they do not end together.
    n_parts = min(len(scales), math.ceil(2 * n_slots / max(1, len(candidates)))) if n_slots > 1 else 1
    parts = [scales[start::n_parts] for start in range(n_parts)]
    calls = [(session.context, folder, names, part) for folder, names in candidates for part in parts]
    answers = iter(map_with_resources(session.resources, what, score_scales, calls))
    found = []
    for _ in candidates:
        scores = {scale: each for _ in parts for scale, each in next(answers).items()}
        found.append({scale: scores[scale] for scale in scales if scale in scores})
    return found


def _print_scales(session: Session, best: Finalist, scale: float) -> None:
    figures = ", ".join(f"{each:g}: {score:.3f}" for each, score in best.average_scores().items())
    session.say(f"  mean {session.plan.config.objective.label} by scale: {figures}; chosen: {scale:g}")
    if set(best.average_scales()) == {0.0, 1.0}:
        session.say("  what was trained cannot be merged into SAM2's weights: there is no scale in between")


def list_contenders(session: Session, single: Chosen, finalists: Sequence[Finalist]) -> list[Contender]:
    """Returns the best single training and the soups, each at its best scale, and says what came of them.

    Soups are folders below ``soups/`` that name their members.
    """
    trainings = [_Training(each.trial_id, run) for each in finalists if each.is_complete for run in each.runs]
    exported = describe_training(single.trial_id, single.seed, single.epoch)
    trainings.sort(key=lambda each: (each.describe() != exported, -each.run.score))
    first = trainings[0].run
    alone = Contender(SINGLE, (exported,), single.checkpoint, single.scale, first.by_scale, first.value_by_scale)
    if len(trainings) == 1:
        return [alone]
    if why := find_why_no_soup(session.context, [each.params for each in finalists]):
        session.say(f"  no soup of the trainings: {why}")
        return [alone]
    session.say(f"scoring soups of the {len(trainings)} trainings ...")
    contenders = [alone, *_score_soups(session, alone, _mix_soups(session, trainings))]
    for each in contenders:
        label = session.plan.config.objective.label
        session.say(f"  {each.describe()}: {label} {each.score:.3f} at scale {each.scale:g}")
    session.say(f"  chosen: the {choose_contender(contenders).describe()}")
    return contenders


class _Training(NamedTuple):
    """A finalist's training."""

    trial_id: str
    run: SeedRun

    def describe(self) -> str:
        return describe_training(self.trial_id, self.run.seed, self.run.epoch)


def _mix_soups(session: Session, trainings: Sequence[_Training]) -> dict[str, list[_Training]]:
    """Returns the members of each kind of soup that has several.

    The greedy soup begins with the first training; the others come by their score.
    """
    context, first = session.context, trainings[0]
    added = call_with_resources(
        session.resources,
        "the greedy soup",
        grow_soup,
        context,
        [Path(each.run.checkpoint) for each in trainings],
        context.val,
        session.plan.config.objective.metric,
        first.run.score_by_scale,
    )
    soups = {
        SEEDS: [each for each in trainings if each.trial_id == first.trial_id],
        GREEDY: [trainings[number] for number in added],
    }
    if set(map(_Training.describe, soups[SEEDS])) == set(map(_Training.describe, soups[GREEDY])):
        del soups[GREEDY]
    return {kind: members for kind, members in soups.items() if len(members) > 1}


def _score_soups(session: Session, alone: Contender, soups: Mapping[str, Sequence[_Training]]) -> Iterator[Contender]:
    """Writes the soups' folders and yields them as contenders; their figures at scale 0 are the single training's."""
    context, metric = session.context, session.plan.config.objective.metric
    folders = {kind: session.plan.folder / SOUPS_FOLDER / kind for kind in soups}
    for kind, members in soups.items():
        write_soup(folders[kind], [Path(each.run.checkpoint) for each in members])
    scales = [scale for scale in SCALES if scale]
    scored = _score_candidates(session, "scores of the soups", [(folders[kind], context.val) for kind in soups], scales)
    for (kind, members), found in zip(soups.items(), scored, strict=True):
        figures = {scale: flatten_scores(scores, "val") for scale, scores in found.items()}
        dice = {0.0: alone.by_scale[0.0], **{scale: each[DICE] for scale, each in figures.items()}}
        values = {**alone.value_by_scale, **{scale: each[metric] for scale, each in figures.items()}}
        values = {} if metric == DICE else values
        scale = choose_scale(values or dice)
        names = tuple(each.describe() for each in members)
        yield Contender(kind, names, f"{SOUPS_FOLDER}/{kind}", scale, dice, values)


def _refit(session: Session, chosen: Chosen, best: Finalist, zeroshot: Scores) -> Chosen:
    """Trains the chosen configuration on all folds' regions together, as long as was best in cross-validation."""
    context = session.context
    pool = tuple(sorted({*context.train, *context.val}))
    epochs = round(float(np.median([run.epoch for run in best.runs])))
    session.say(f"training the chosen configuration on all {len(pool)} regions for {epochs} epochs ...")
    config: dict[str, Any] = {**chosen.params, SEED_KEY: chosen.seed, FROM_TRIAL: chosen.trial_id}
    whole = dataclasses.replace(context, train=pool, val=(), folds=())
    trials = run_listed(session, zeroshot, [config], REFIT, whole, epochs)
    trial = next((each for each in trials if each.config == config), None)
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

"""Ranks the trials of a search, by one objective or as a Pareto set."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna

from search.errors import ConfigError, SearchError
from search.run_folder.chosen import Chosen
from search.run_folder.finalists import Finalist, SeedRun
from search.run_folder.json_files import find_record, read_record, write_record
from search.run_folder.layout import CHOSEN_FILE, PARETO_FILE, TRIALS_FOLDER
from search.run_folder.search_record import SearchRecord
from search.run_folder.trial_folder import locate_trial, read_best_epoch
from search.space.objective import DICE, Objective
from search.study.study_file import make_study_file
from search.study.trial_attributes import RAY_TRIAL_ID, REASON, STARTING_POINT, has_begun, name_state, read_trials
from trainables.context import RECIPE_FILE
from trainables.files.weight_file import COPY_FIX

_DEFAULT = Objective()


@dataclass(frozen=True)
class RankedTrial:
    """A trial at its best epoch by the search's objective.

    Attributes:
        checkpoint: Folder of the checkpoint of its best epoch.
        epoch: That epoch, counted from 1.
        val_dice: Its Dice on validation, in [0, 1], at ``scale``.
        params: Its whole recipe, flat.
        value: The objective at that epoch; None where that is the Dice.
        trained_parameters: How many numbers it trains; NaN where it does not report them.
        starting_point: Its name; empty where the sampler proposed the trial.
        scale: Scale of the update at which the epoch is the best.
    """

    trial_id: str
    checkpoint: Path
    epoch: int
    val_dice: float
    params: Mapping[str, Any]
    value: float | None = None
    trained_parameters: float = math.nan
    starting_point: str = ""
    scale: float = 1.0

    @property
    def score(self) -> float:
        """What trials are ranked by."""
        return self.val_dice if self.value is None else self.value

    def to_finalist(self, *runs: SeedRun) -> Finalist:
        """Returns the trial as a finalist with these trainings."""
        return Finalist(self.trial_id, self.val_dice, self.params, runs, self.value, self.starting_point)

    def to_run(self, seed: int) -> SeedRun:
        """Returns the trial's own training, which had the search's seed, at its scale."""
        return SeedRun(
            seed,
            str(self.checkpoint),
            self.epoch,
            self.val_dice,
            by_scale={self.scale: self.val_dice},
            value=self.value,
            value_by_scale={} if self.value is None else {self.scale: self.value},
        )


def rank_trials(
    trials: list[optuna.trial.FrozenTrial], trials_folder: Path, objective: Objective = _DEFAULT
) -> list[RankedTrial]:
    """Returns every trial that left a checkpoint, at the best epoch whose checkpoint is left, the best trial first.

    The objective compares epochs and trials; of two objectives, the first.

    Raises:
        ConfigError: If the recipe of such a checkpoint is damaged.
    """
    ranked = []
    for trial in trials:
        trial_id = trial.user_attrs.get(RAY_TRIAL_ID)
        if trial_id is None:
            continue
        best = read_best_epoch(locate_trial(trials_folder, trial_id), objective.metric)
        if best is not None:
            params = read_record(best.path / RECIPE_FILE, dict[str, Any], COPY_FIX)
            ranked.append(
                RankedTrial(
                    trial_id=trial_id,
                    checkpoint=best.path,
                    epoch=best.epoch,
                    val_dice=best.val_dice,
                    params=params,
                    value=None if objective.metric == DICE else best.value,
                    trained_parameters=best.trained_parameters,
                    starting_point=trial.user_attrs.get(STARTING_POINT, ""),
                    scale=best.scale,
                )
            )
    return sorted(ranked, key=lambda each: -each.score)


def read_ranked(folder: Path, record: SearchRecord) -> tuple[list[optuna.trial.FrozenTrial], list[RankedTrial]]:
    """Returns a search's own trials as the study has them, and those that left a checkpoint by :func:`rank_trials`."""
    trials = read_trials(make_study_file(folder, record))
    return trials, rank_trials(trials, folder / TRIALS_FOLDER, Objective.from_config(record.config))


def pick_winner(
    ranked: Sequence[RankedTrial], trials: Sequence[optuna.trial.FrozenTrial], trials_folder: Path
) -> RankedTrial:
    """Returns the first of the trials that :func:`rank_trials` has ranked.

    Raises:
        SearchError: If no trial left a checkpoint, with the most frequent reasons of the trials.
    """
    if ranked:
        return ranked[0]
    reasons = Counter(str(trial.user_attrs.get(REASON, name_state(trial))) for trial in trials if has_begun(trial))
    why = "; ".join(f"{count} x {reason}" for reason, count in reasons.most_common(3)) or "no trial was started"
    raise SearchError(f"no trial left a checkpoint in {trials_folder} ({why})")


def pick_finalists(ranked: Sequence[RankedTrial], number: int) -> list[RankedTrial]:
    """Returns the best trials; of several, the last makes way for the best starting point if that is none of them.

    One unlucky training must not lose the configuration that would have been chosen without a search.
    """
    start, best = next((each for each in ranked if each.starting_point), None), list(ranked[:number])
    return best if start is None or start in best or number == 1 else [*best[: number - 1], start]


def find_trial(ranked: list[RankedTrial], trial_id: str) -> RankedTrial:
    """Returns a trial by its id.

    Raises:
        ConfigError: If none of that id left a checkpoint, with those that did.
    """
    for trial in ranked:
        if trial.trial_id == trial_id:
            return trial
    known = ", ".join(trial.trial_id for trial in ranked) or "none"
    raise ConfigError.at(f"--trial {trial_id}", "no such trial left a checkpoint", f"those that did: {known}")


def read_chosen(folder: Path, record: SearchRecord) -> Chosen:
    """Returns what a search chose; before it has chosen, its best trial as it is.

    Raises:
        ConfigError: If ``chosen.json`` is damaged.
        SearchError: If no trial left a checkpoint, or a cross-validated search did not come to its refit.
    """
    chosen = find_record(folder / CHOSEN_FILE, Chosen)
    if chosen is not None:
        return chosen
    if record.context.folds:
        raise SearchError(
            f"{folder} was cross-validated and did not come to its refit on all regions: there is no model to export"
        )
    trials, ranked = read_ranked(folder, record)
    best = pick_winner(ranked, trials, folder / TRIALS_FOLDER)
    finalist = best.to_finalist(best.to_run(record.context.seed))
    return Chosen.from_finalist(finalist, best.scale, 0, record.context.protocol.id, folder)


def find_pareto(ranked: Sequence[RankedTrial]) -> list[RankedTrial]:
    """Returns the trials that no other beats: in Dice or parameters, without being worse in the other.

    Each counts at its best epoch whose checkpoint is left, also where it was stopped early. Trials that are equal in
    both stay all. The highest Dice comes first, then the fewest parameters.
    """
    ordered = sorted(ranked, key=lambda each: (-each.val_dice, each.trained_parameters))
    kept: list[RankedTrial] = []
    for trial in ordered:
        fewest = min((each.trained_parameters for each in kept), default=math.inf)
        is_equal = bool(kept) and (trial.val_dice, trial.trained_parameters) == (kept[-1].val_dice, fewest)
        if trial.trained_parameters < fewest or is_equal:
            kept.append(trial)
    return kept


def write_pareto(folder: Path, members: Sequence[RankedTrial], protocol_id: str) -> None:
    """Writes the set's trials, and the protocol of their Dice, to ``pareto.json``, whole or not at all."""
    entries = [
        {
            "trial_id": each.trial_id,
            "val_dice": each.val_dice,
            "trained_parameters": int(each.trained_parameters),
            "epoch": each.epoch,
        }
        for each in members
    ]
    write_record(folder / PARETO_FILE, {"protocol_id": protocol_id, "members": entries})


def describe_pareto(members: Sequence[RankedTrial], bar: float) -> list[str]:
    """Returns the lines for the screen about the set, which begins with the highest Dice; ``bar`` is zero-shot's."""
    lines = [
        f"  trial {each.trial_id}: val Dice {each.val_dice:.3f} ({each.val_dice - bar:+.3f}), "
        f"{int(each.trained_parameters):,} trained parameters, epoch {each.epoch}"
        for each in members
    ]
    return [
        f"Pareto set, {len(members)} trial{'s' * (len(members) > 1)} that no other beats in both Dice and parameters:",
        *lines,
        "  the best of them are confirmed; among these the highest mean Dice over seeds is chosen, whatever its size",
    ]

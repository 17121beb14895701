"""The model that a search chose on validation: one configuration, its seed and epoch or a soup, and a scale."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search.run_folder.contenders import GREEDY, SINGLE, Contender
from search.run_folder.finalists import Finalist
from search.run_folder.json_files import write_record
from search.run_folder.layout import CHOSEN_FILE, SUMMARY_FILE, put_aside


@dataclass(frozen=True, kw_only=True)
class ChosenModel:
    """Which model was chosen, and its figures on validation.

    Attributes:
        trial_id: Ray's id of the trial that found the configuration.
        params: The whole recipe, flat.
        seed: Seed of the training that is exported.
        epoch: The epoch of that training, counted from 1.
        scale: Factor of the fine-tune's change of the weights (WiSE-FT): 1 is the fine-tune as trained, 0 is
            zero-shot.
        val_dice: Dice on validation at the chosen scale; cross-validated, where there are folds.
        seeds_mean: Mean over seeds of the validation Dice, each at the best of the scales that epochs are scored at.
        seeds_std: Standard deviation of that Dice over seeds.
        n_seeds: Number of seeds; 1 where nothing was confirmed.
        n_finalists: Number of configurations that were trained with these seeds; 0 where nothing was confirmed.
        objective_value: The search's objective on validation at that scale; None where that is the Dice.
        soup: ``seeds`` or ``greedy`` where the model is a soup (:mod:`search.run_folder.contenders`), else empty;
            seed and epoch are then those of the best single training, which is one of its members.
        soup_members: Trial, seed and epoch of each member in words.
        starting_point: Name of the starting point that the configuration is; empty where the sampler proposed it.
    """

    trial_id: str
    params: Mapping[str, Any]
    seed: int
    epoch: int
    scale: float
    val_dice: float
    seeds_mean: float
    seeds_std: float
    n_seeds: int
    n_finalists: int
    objective_value: float | None = None
    soup: str = ""
    soup_members: tuple[str, ...] = ()
    starting_point: str = ""

    def describe(self) -> str:
        """Returns trial, seed, epoch and scale in words; the list of test openings identifies a model by them."""
        return f"{self.describe_training()}, scale {self.scale:g}"

    def describe_training(self) -> str:
        """Returns the trainings whose update is scaled, in words."""
        if not self.soup:
            return describe_training(self.trial_id, self.seed, self.epoch)
        kind = "greedy soup" if self.soup == GREEDY else "soup"
        return f"{kind} of {len(self.soup_members)} trainings ({'; '.join(self.soup_members)})"


def describe_training(trial_id: str, seed: int, epoch: int) -> str:
    """Names one training, at the epoch whose checkpoint counts."""
    return f"trial {trial_id}, seed {seed}, epoch {epoch}"


@dataclass(frozen=True, kw_only=True)
class Chosen(ChosenModel):
    """``chosen.json``: the chosen model and its checkpoint, whose path is relative to the search's folder.

    After a cross-validation it is a ``refit``, trained once more on training and validation regions together, and
    has no validation score of its own.
    """

    checkpoint: str
    val_dice_at_1: float
    refit: bool = False
    protocol_id: str

    @staticmethod
    def from_finalist(finalist: Finalist, scale: float, n_finalists: int, protocol_id: str, folder: Path) -> Chosen:
        """Returns a finalist's best training at a scale; its trainings were scored at this scale."""
        run = max(finalist.runs, key=lambda each: each.score_by_scale[scale])
        return Chosen(
            trial_id=finalist.trial_id,
            params=finalist.params,
            seed=run.seed,
            epoch=run.epoch,
            scale=scale,
            val_dice=run.by_scale[scale],
            seeds_mean=finalist.mean_dice,
            seeds_std=finalist.std_dice,
            n_seeds=len(finalist.runs),
            n_finalists=n_finalists,
            objective_value=None if run.value is None else run.value_by_scale[scale],
            checkpoint=Path(run.checkpoint).relative_to(folder).as_posix(),
            val_dice_at_1=run.by_scale.get(1.0, math.nan),
            protocol_id=protocol_id,
            starting_point=finalist.starting_point,
        )

    def replace_by(self, winner: Contender) -> Chosen:
        """Returns the choice of a contender; of the single training, which this is, the choice as it is."""
        if winner.kind == SINGLE:
            return self
        return dataclasses.replace(
            self,
            soup=winner.kind,
            soup_members=winner.members,
            checkpoint=winner.checkpoint,
            scale=winner.scale,
            val_dice=winner.val_dice,
            val_dice_at_1=winner.by_scale[1.0],
            objective_value=None if self.objective_value is None else winner.score,
        )

    def write(self, folder: Path) -> None:
        """Writes ``chosen.json``, whole or not at all."""
        write_record(folder / CHOSEN_FILE, self)

    def locate(self, folder: Path) -> Path:
        """Returns the checkpoint's folder in a search's folder."""
        return folder / self.checkpoint


def discard_choice(folder: Path) -> None:
    """Removes the choice and puts its summary aside, before trials are added to a search that ended."""
    (folder / CHOSEN_FILE).unlink(missing_ok=True)  # first: a kill in between must not keep it
    put_aside(folder / SUMMARY_FILE)

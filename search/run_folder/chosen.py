"""What a search exports: one configuration, seed, epoch and scale, chosen on validation alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search.run_folder.json_files import write_record
from search.run_folder.layout import CHOSEN_FILE, SUMMARY_FILE, put_aside


@dataclass(frozen=True)
class Chosen:
    """``chosen.json``.

    Attributes:
        trial_id: The trial of the search whose configuration it is.
        seed: Of the training that is exported.
        checkpoint: Its folder below the search's.
        epoch: Its epoch, counted from 1.
        scale: What the fine-tune's change of the weights is multiplied by (WiSE-FT): 1 is the fine-tune as
            trained, 0 is zero-shot.
        val_dice: Dice on validation at that scale; cross-validated, where there are folds.
        val_dice_at_1: The same at scale 1.
        seeds_mean: Mean over seeds of the validation Dice at scale 1.
        seeds_std: Its standard deviation.
        n_seeds: Number of trainings with different seeds; 1 where nothing was confirmed.
        n_finalists: Configurations that were confirmed.
        refit: Whether it was trained once more on training and validation regions together, after a
            cross-validation: then it has no validation score of its own.
        protocol_id: Under which every figure here was measured.
        params: Its whole recipe, flat.
        objective_value: What the search optimized, on validation at that scale; None where that is the Dice.
    """

    trial_id: str
    seed: int
    checkpoint: str
    epoch: int
    scale: float
    val_dice: float
    val_dice_at_1: float
    seeds_mean: float
    seeds_std: float
    n_seeds: int
    n_finalists: int
    refit: bool
    protocol_id: str
    params: Mapping[str, Any]
    objective_value: float | None = None

    def write(self, folder: Path) -> None:
        """Writes ``chosen.json``, whole or not at all."""
        write_record(folder / CHOSEN_FILE, self)

    def locate(self, folder: Path) -> Path:
        """Returns the checkpoint's folder in a search's folder."""
        return folder / self.checkpoint


def discard_choice(folder: Path) -> None:
    """Forgets what was chosen and puts its summary aside, as more trials are about to be added to the search."""
    put_aside(folder / SUMMARY_FILE)
    (folder / CHOSEN_FILE).unlink(missing_ok=True)

"""What a search optimizes: one figure of a trial, or two at once, and the set of trials that no other beats in both."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from search.yaml_lines import YamlNode, describe
from trainables.recipe import suggest_name
from trainables.whole_file import write_whole

if TYPE_CHECKING:  # results reads trials by an objective
    from search.results import Winner

Mode = Literal["max", "min"]

DICE = "val_dice"
PARAMETERS = "trained_parameters"
# Figures that a trial reports after each epoch and that can be optimized alone, with their words on a screen.
LABELS = {DICE: "val Dice", "val_dice_min_class": "lowest class Dice", "val_iou": "val IoU"}
PAIR = (DICE, PARAMETERS)
PARETO_FILE = "pareto.json"


@dataclass(frozen=True)
class Objective:
    """What a search optimizes.

    Attributes:
        metrics: Names of figures in a trial's results: one of :data:`LABELS`, which is to be large; or :data:`PAIR`,
            Dice to be large and the number of trained parameters to be small. Where only one figure can count
            (early stopping, a trial's best epoch, the scale of the update), the first does.
    """

    metrics: tuple[str, ...] = (DICE,)

    @property
    def metric(self) -> str:
        """The figure by which trials are stopped and epochs are chosen; larger is better."""
        return self.metrics[0]

    @property
    def modes(self) -> tuple[Mode, ...]:
        """Whether a larger (``max``) or a smaller (``min``) value is better, by metric."""
        return tuple("min" if metric == PARAMETERS else "max" for metric in self.metrics)

    @property
    def is_pair(self) -> bool:
        """Whether two figures are optimized at once."""
        return len(self.metrics) > 1

    @property
    def is_dice(self) -> bool:
        """Whether validation Dice alone is optimized, as by default."""
        return self.metrics == (DICE,)

    @property
    def label(self) -> str:
        """The first figure in words: ``val Dice``."""
        return LABELS[self.metric]

    def describe(self) -> str:
        """Returns all of it in words: ``val Dice (up) and trained parameters (down)``."""
        return f"{self.label} (up) and trained parameters (down)" if self.is_pair else f"{self.label} ({self.metric})"

    def to_plain(self) -> str | list[str]:
        """Returns what a space file says: a name, or two."""
        return list(self.metrics) if self.is_pair else self.metric

    @staticmethod
    def from_plain(plain: str | Sequence[str]) -> Objective:
        """Takes up what :meth:`to_plain` returned."""
        return Objective((plain,) if isinstance(plain, str) else tuple(plain))

    @staticmethod
    def from_config(config: Mapping[str, Any]) -> Objective:
        """Reads the objective of a search from its recorded configuration; without one it is validation Dice."""
        return Objective.from_plain(config.get("objective", DICE))


def read_objective(node: YamlNode) -> Objective:
    """Reads ``objective`` of a space file; reports what is none, and returns the default in its place."""
    value = node.value
    if isinstance(value, str) and value in LABELS:
        return Objective((value,))
    if isinstance(value, list) and tuple(value) == PAIR:
        return Objective(PAIR)
    shown = f"[{', '.join(map(str, value))}]" if isinstance(value, list) else describe(value)
    what = f"must be one of {', '.join(LABELS)}, or [{', '.join(PAIR)}], but got {shown}"
    fix = f"write [{', '.join(PAIR)}], in this order, or one name"
    node.report(what, fix if isinstance(value, list) else suggest_name(str(value), tuple(LABELS)))
    return Objective()


def find_pareto(ranked: Sequence[Winner]) -> list[Winner]:
    """Returns the trials of which no other has at least their Dice with at most their parameters, one of them better.

    Each counts at its best epoch of which a checkpoint is left, also where it was stopped early. Of trials that are
    equal in both, all stay.

    Args:
        ranked: Trials with Dice and parameters, in any order.

    Returns:
        Those of the set, the highest Dice first, then the fewest parameters.
    """
    ordered = sorted(ranked, key=lambda each: (-each.val_dice, each.trained_parameters))
    kept: list[Winner] = []
    for trial in ordered:
        fewest = min((each.trained_parameters for each in kept), default=math.inf)
        is_equal = bool(kept) and (trial.val_dice, trial.trained_parameters) == (kept[-1].val_dice, fewest)
        if trial.trained_parameters < fewest or is_equal:
            kept.append(trial)
    return kept


def write_pareto(folder: Path, members: Sequence[Winner], protocol_id: str) -> None:
    """Writes ``pareto.json``, whole or not at all: the set's trials, and the protocol of their Dice."""
    entries = [
        {
            "trial_id": each.trial_id,
            "val_dice": each.val_dice,
            "trained_parameters": int(each.trained_parameters),
            "epoch": each.epoch,
        }
        for each in members
    ]
    write_whole(folder / PARETO_FILE, json.dumps({"protocol_id": protocol_id, "members": entries}, indent=1) + "\n")


def describe_pareto(members: Sequence[Winner], bar: float) -> list[str]:
    """Returns what the screen says of the set.

    Args:
        members: The set, the highest Dice first.
        bar: Zero-shot's Dice on validation.
    """
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

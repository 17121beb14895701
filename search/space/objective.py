"""What a search optimizes: one figure of a trial, or two at once, and the set of trials that no other beats in both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from trainables.adapters.scales import SCALES
from trainables.errors import suggest_name
from trainables.files.yaml_lines import YamlNode, describe

Mode = Literal["max", "min"]

DICE = "val_dice"
PARAMETERS = "trained_parameters"
# Figures that a trial reports after each epoch and that can be optimized alone, with their words on a screen.
LABELS = {DICE: "val Dice", "val_dice_min_class": "lowest class Dice", "val_iou": "val IoU"}
PAIR = (DICE, PARAMETERS)


@dataclass(frozen=True)
class Objective:
    """What a search optimizes.

    Attributes:
        metrics: Names of figures in a trial's results: one of :data:`LABELS`, which is to be large; or :data:`PAIR`,
            Dice to be large and the number of trained parameters to be small. Where only one figure can count
            (early stopping, a trial's best epoch, the scale of the update), the first does.
    """

    metrics: tuple[str, ...] = (DICE,)

    def __post_init__(self) -> None:
        if self.metrics != PAIR and self.metrics not in [(metric,) for metric in LABELS]:
            raise ValueError(f"objective must be one of {', '.join(LABELS)} or {list(PAIR)}, but got {self.metrics}")

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


def read_scales(node: YamlNode) -> tuple[float, ...]:
    """Reads ``scales`` of a space file; reports what is wrong, and returns the default in its place."""
    n_before, known = len(node.problems), [scale for scale in SCALES if scale]
    fix, found = "write [1.0, 0.5]: 1 is the update as trained, 0.5 half of it", []
    for item in node.read_list():
        if isinstance(item.value, (int, float)) and not isinstance(item.value, bool) and item.value in known:
            found.append(float(item.value))
        else:
            numbers = ", ".join(f"{scale:g}" for scale in known)
            item.report(f"must be one of {numbers}, but got {describe(item.value)}", fix)
    if len(node.problems) == n_before and len(set(found)) < max(1, len(found)):
        node.report("names a scale twice" if found else "is empty", fix)
    return tuple(found) if len(node.problems) == n_before else (1.0,)

"""The models that may be exported: the best single training of the chosen configuration, and soups of trainings."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# Figures that differ by no more tie.
_TIE = 1e-9
SINGLE, SEEDS, GREEDY = "single", "seeds", "greedy"
# Of equal ones the last: soups are more robust than their members, and the plain one owes the least to chance.
_KINDS = (SINGLE, GREEDY, SEEDS)


@dataclass(frozen=True)
class Contender:
    """A model that may be exported, with its figures on validation.

    Attributes:
        kind: ``single``: one training. ``seeds``: the soup of all seeds of the chosen configuration. ``greedy``: the
            greedy soup over the finalists' trainings.
        members: Trial, seed and epoch of each training in words.
        checkpoint: The folder of its checkpoint or soup, relative to the search's.
        scale: Factor of its change of the weights.
        by_scale: Dice by that factor.
        value_by_scale: The search's objective by that factor; empty where that is the Dice.
    """

    kind: str
    members: tuple[str, ...]
    checkpoint: str
    scale: float
    by_scale: Mapping[float, float]
    value_by_scale: Mapping[float, float] = dataclasses.field(default_factory=dict)

    @property
    def val_dice(self) -> float:
        """Dice at its scale."""
        return self.by_scale[self.scale]

    @property
    def score(self) -> float:
        """What contenders are compared by: the search's objective at its scale."""
        return (self.value_by_scale or self.by_scale)[self.scale]

    def describe(self) -> str:
        """Names it in a few words."""
        names = {SINGLE: "best single training", SEEDS: f"soup of {len(self.members)} seeds"}
        return names.get(self.kind, f"greedy soup of {len(self.members)} trainings")


def choose_scale(by_scale: Mapping[float, float]) -> float:
    """Returns the scale with the highest mean over seeds; among equals the one nearest to 1."""
    best = max(by_scale.values())
    return min((s for s, dice in by_scale.items() if dice >= best - _TIE), key=lambda s: (abs(s - 1), s))


def choose_contender(contenders: Sequence[Contender]) -> Contender:
    """Returns the contender with the highest score; a soup also where it only equals the single training.

    A soup at scale 0 is zero-shot, which is left to the single training.
    """
    able = [each for each in contenders if each.kind == SINGLE or each.scale]
    best = max(each.score for each in able)
    return max((each for each in able if each.score >= best - _TIE), key=lambda each: _KINDS.index(each.kind))

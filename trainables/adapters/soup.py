"""The soup of several fine-tunes of one base: the mean of their updates (Wortsman et al. 2022, arXiv 2203.05482).

A low-rank update is a product, and the mean of products is not the product of the factors' means: merged weights are
averaged. As all members start from one base, the mean of their weights is the base plus the mean of their updates.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from trainables.adapters.adapted_model import PEFT_PREFIX
from trainables.adapters.interpolation import find_lora_scaling, is_pissa

if TYPE_CHECKING:
    from peft import PeftConfig

SavedAdapter = tuple[Mapping[str, Tensor], "PeftConfig | None"]
_FIRST, _SECOND = ".lora_A.weight", ".lora_B.weight"


@dataclass(frozen=True)
class WeightMean:
    """The mean of the merged weights of fine-tunes that were added one by one, in the order in which they were."""

    n_members: int = 0
    _totals: Mapping[str, Tensor] = field(default_factory=dict)  # in float64, so that equal weights stay bit for bit

    def add(self, state: Mapping[str, Tensor]) -> WeightMean:
        """Returns the mean of one member more."""
        totals = {name: value.double() + self._totals.get(name, 0.0) for name, value in state.items()}
        return WeightMean(self.n_members + 1, totals)

    def to_state(self) -> dict[str, Tensor]:
        """Returns the mean."""
        return {name: (total / self.n_members).float() for name, total in self._totals.items()}


def join_adapters(
    adapters: Sequence[SavedAdapter], whole: Mapping[str, Tensor], scale: float
) -> tuple[dict[str, Tensor], PeftConfig | None] | None:
    """Returns one adapter, and its config, that turns the base into a soup at a scale.

    ``[B1 B2] [A1; A2] = B1 A1 + B2 A2``: a LoRA of the members' summed rank is exactly their mean. ``whole`` has the
    weights of the soup at that scale, for those that were trained in full.

    Returns:
        None where the members' layers differ, or their kind is not one that can be joined (DoRA, PiSSA, LoHa, LoKr).
    """
    from peft import LoraConfig

    states, configs = [state for state, _ in adapters], [config for _, config in adapters]
    if any(state.keys() != states[0].keys() for state in states):
        return None
    in_full = {name: whole[stock].clone() for name in states[0] if (stock := name.removeprefix(PEFT_PREFIX)) in whole}
    if not any(configs):
        return in_full, None
    loras = [each for each in configs if isinstance(each, LoraConfig) and not each.use_dora and not is_pissa(each)]
    if len(loras) < len(configs):
        return None
    joined = copy.deepcopy(loras[0])
    joined.r = sum(config.r for config in loras)
    joined.lora_alpha, joined.use_rslora = joined.r, False  # the factors carry the whole scale
    found = dict(in_full)
    for layer in (name.removesuffix(_FIRST) for name in states[0] if name.endswith(_FIRST)):
        factors = [find_lora_scaling(config) * scale / len(loras) for config in loras]
        seconds = [factor * state[layer + _SECOND] for factor, state in zip(factors, states, strict=True)]
        found[layer + _FIRST] = torch.cat([state[layer + _FIRST] for state in states])
        found[layer + _SECOND] = torch.cat(seconds, dim=1)
    return found, joined

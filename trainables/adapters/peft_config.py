"""Turns a recipe into the configuration of one of PEFT's low-rank updates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from trainables.recipe import AdapterRecipe

if TYPE_CHECKING:
    from peft import PeftConfig


# PiSSA by full SVD: the fast randomized one gives another residual each time, so that a saved one loads wrong.
LORA_VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "lora": {},
    "rslora": {"use_rslora": True},
    "dora": {"use_dora": True},
    "pissa": {"init_lora_weights": "pissa"},
}
PEFT_KINDS = (*LORA_VARIANTS, "loha", "lokr")
# Settings by which updates differ whose weights have the same names.
IDENTITY = ("peft_type", "r", "lora_alpha", "alpha", "use_rslora", "use_dora", "init_lora_weights")


def build_peft_config(recipe: AdapterRecipe, layers: Sequence[str]) -> PeftConfig:
    """Returns PEFT's configuration of a kind of :data:`PEFT_KINDS`, for Linear layers by their full names."""
    from peft import LoHaConfig, LoKrConfig, LoraConfig, PeftConfig

    if recipe.kind in LORA_VARIANTS:
        return LoraConfig(
            r=recipe.rank,
            lora_alpha=recipe.alpha,  # type: ignore[arg-type]  # PEFT only ever divides it
            lora_dropout=recipe.dropout,
            target_modules=list(layers),
            **LORA_VARIANTS[recipe.kind],
        )
    config_class: Any = {"loha": LoHaConfig, "lokr": LoKrConfig}[recipe.kind]
    config = config_class(r=recipe.rank, alpha=recipe.alpha, rank_dropout=recipe.dropout, target_modules=list(layers))
    assert isinstance(config, PeftConfig)
    return config


def describe_config(config: PeftConfig) -> dict[str, object]:
    """Returns those settings of :data:`IDENTITY` that the update has, as in PEFT's ``adapter_config.json``."""
    return {key: getattr(config, key) for key in IDENTITY if hasattr(config, key)}

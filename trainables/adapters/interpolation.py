"""Interpolation of a fine-tuned model towards, and a little beyond, its zero-shot base.

WiSE-FT (Wortsman et al. 2022, arXiv 2109.01903): ``weights(s) = base + s * (tuned - base)``. It works on merged
weights, and so for every adapter that merges; for LoRA it is the update times ``s``.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from trainables.adapters.adapted_model import PEFT_PREFIX
from trainables.adapters.scales import check_scale
from trainables.errors import TrainablesError

if TYPE_CHECKING:
    from peft import LoraConfig, PeftConfig


# The factor of each kind that is scaled: the update is linear in it. LoHa and LoKr save it whole or in two.
LINEAR_FACTORS = (".lora_B.weight", ".hada_w1_a", ".lokr_w1", ".lokr_w1_a")
OTHER_FACTORS = (
    *(".lora_A.weight", ".hada_w1_b", ".hada_w2_a", ".hada_w2_b"),
    *(".lokr_w1_b", ".lokr_w2", ".lokr_w2_a", ".lokr_w2_b"),
)
MAGNITUDE = ".lora_magnitude_vector"


def interpolate_weights(
    base_state: Mapping[str, Tensor], tuned_state: Mapping[str, Tensor], scale: float
) -> dict[str, Tensor]:
    """Returns copies of ``base + scale * (tuned - base)``, weight by weight, of weights before and after training.

    The scale is from 0 to 2; 0 gives the base and 1 the tuned (merged) weights, both bit for bit. What training did not
    change stays bit for bit at every scale.

    Raises:
        InputError: If the scale is out of its limits.
    """
    check_scale(scale)
    return {name: _interpolate(value, tuned_state[name], scale) for name, value in base_state.items()}


def _interpolate(base: Tensor, tuned: Tensor, scale: float) -> Tensor:
    # base + 1 * (tuned - base) is rounded: what needs no arithmetic gets none.
    if scale == 1:
        return tuned.clone()
    if scale == 0 or torch.equal(base, tuned):
        return base.clone()
    return torch.lerp(base, tuned, scale)


def interpolate_adapter(
    adapter_state: Mapping[str, Tensor],
    config: PeftConfig | None,
    base_state: Mapping[str, Tensor],
    tuned_state: Mapping[str, Tensor],
    scale: float,
    initial_state: Mapping[str, Tensor] | None = None,
) -> tuple[dict[str, Tensor], PeftConfig | None]:
    """Returns an adapter, and its config, that turns the base into what :func:`interpolate_weights` returns.

    LoRA's, LoHa's and LoKr's updates are linear in one of their factors. DoRA's are not, but a DoRA of the same rank
    gives their interpolation too. PiSSA becomes a plain LoRA of twice the rank, as it changes the base it sits on.

    Args:
        adapter_state: As saved: factors by PEFT's names, and the weights that were trained in full.
        config: Of the adapter; None where nothing but weights that were trained in full is saved.
        base_state: Weights before training.
        tuned_state: Weights after it, merged.
        scale: As for :func:`interpolate_weights`.
        initial_state: Of PiSSA, what PEFT saves of it before any training; not needed for other kinds.

    Raises:
        InputError: If the scale is out of its limits.
        ValueError: If PiSSA's initial state is missing.
        TrainablesError: If an adapter of this kind cannot give these weights.
    """
    from peft import LoraConfig

    whole = interpolate_weights(base_state, tuned_state, scale)
    state = {
        name: _scale_factor(name, value, whole, scale) if scale != 1 else value.clone()
        for name, value in adapter_state.items()
    }
    _check_coverage(state, base_state, tuned_state)
    if scale == 1 or not isinstance(config, LoraConfig):
        return state, copy.deepcopy(config)
    if config.use_dora:
        return state | _scale_dora(adapter_state, config, base_state, scale), copy.deepcopy(config)
    if is_pissa(config):
        if initial_state is None:
            raise ValueError("PiSSA needs its state before training, to find what training changed")
        return state | _subtract_initial(state, initial_state, scale, config.r), _double_rank(config)
    return state, copy.deepcopy(config)


def is_pissa(config: PeftConfig | None) -> bool:
    """Returns whether an adapter starts with the base's own principal part, which it takes out of the base."""
    from peft import LoraConfig

    start = config.init_lora_weights if isinstance(config, LoraConfig) else None
    return isinstance(start, str) and start.startswith("pissa")


def _scale_factor(name: str, value: Tensor, whole: Mapping[str, Tensor], scale: float) -> Tensor:
    stock = name.removeprefix(PEFT_PREFIX)
    if stock in whole:  # trained in full
        return whole[stock].clone()
    if name.endswith(LINEAR_FACTORS):
        return value * scale
    if name.endswith((*OTHER_FACTORS, MAGNITUDE)):
        return value.clone()
    raise TrainablesError(f"an adapter with the weight {name} cannot be scaled: export it at scale 1")


def _check_coverage(
    state: Mapping[str, Tensor], base_state: Mapping[str, Tensor], tuned_state: Mapping[str, Tensor]
) -> None:
    """Raises TrainablesError if the adapter lacks a weight that training changed."""
    carried = {name.removeprefix(PEFT_PREFIX) for name in state}
    suffixes = (*LINEAR_FACTORS, *OTHER_FACTORS, MAGNITUDE)
    carried |= {f"{name.removesuffix(end)}.weight" for name in carried for end in suffixes if name.endswith(end)}
    lost = [
        name for name, value in base_state.items() if name not in carried and not torch.equal(value, tuned_state[name])
    ]
    if lost:
        raise TrainablesError(
            f"training changed {len(lost)} weights that the adapter's folder does not hold (first: {lost[0]})"
        )


def _scale_dora(
    state: Mapping[str, Tensor], config: LoraConfig, base_state: Mapping[str, Tensor], scale: float
) -> dict[str, Tensor]:
    """Returns DoRA's second factors and magnitudes at a scale (DoRA: Liu et al. 2024, arXiv 2402.09353).

    DoRA's weight is ``D (W + c B A)`` with the diagonal ``D = m / norm(W + c B A)``. Between it and ``W``, at ``s``,
    lies ``E (W + c B' A)`` with ``E = 1 - s + s D`` and ``B' = s D B / E``, of magnitude ``E norm(W + c B' A)``.
    """
    found: dict[str, Tensor] = {}
    factor = find_lora_scaling(config)
    for name, magnitude in state.items():
        if not name.endswith(MAGNITUDE):
            continue
        layer = name.removesuffix(MAGNITUDE)
        weight = base_state[f"{layer.removeprefix(PEFT_PREFIX)}.weight"].double()
        first = state[f"{layer}.lora_A.weight"].double()
        second = state[f"{layer}.lora_B.weight"].double()
        stretch = magnitude.double() / torch.linalg.norm(weight + factor * second @ first, dim=1)
        blend = 1 - scale + scale * stretch
        if not bool((blend.abs() > 1e-6).all()):
            raise TrainablesError(f"DoRA cannot give {layer} at scale {scale}: a row of weights would vanish")
        second = (scale * stretch / blend)[:, None] * second
        found[f"{layer}.lora_B.weight"] = second.to(magnitude.dtype)
        norm = torch.linalg.norm(weight + factor * second @ first, dim=1)
        found[name] = (blend * norm).to(magnitude.dtype)
    return found


def find_lora_scaling(config: LoraConfig) -> float:
    """Returns what the product of a LoRA's factors is multiplied by."""
    return config.lora_alpha / (math.sqrt(config.r) if config.use_rslora else config.r)


def _subtract_initial(
    state: Mapping[str, Tensor], initial: Mapping[str, Tensor], scale: float, rank: int
) -> dict[str, Tensor]:
    """Returns factors of ``s (B A - B0 A0)``: what training added to the base, in one product of twice the rank."""
    found: dict[str, Float[Tensor, "rows columns"]] = {}
    for name, value in state.items():
        # PiSSA's rank ends at a layer's smaller side, a plain LoRA's does not: the rest is zero.
        if name.endswith(".lora_A.weight"):
            found[name] = functional.pad(torch.cat([value, initial[name]]), (0, 0, 0, 2 * (rank - len(value))))
        elif name.endswith(".lora_B.weight"):
            joined = torch.cat([value, -scale * initial[name]], dim=1)
            found[name] = functional.pad(joined, (0, 2 * (rank - value.shape[1])))
    return found


def _double_rank(config: LoraConfig) -> LoraConfig:
    """Returns the config of a plain LoRA of twice the rank whose product is scaled as before."""
    doubled = copy.deepcopy(config)
    doubled.init_lora_weights = True
    doubled.r = 2 * config.r
    growth = math.sqrt(2) if config.use_rslora else 2
    doubled.lora_alpha = growth * config.lora_alpha  # type: ignore[assignment]  # PEFT only divides it
    return doubled

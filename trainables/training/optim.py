"""AdamW with layer-wise decay of the learning rate, and a rate of their own for adapters' updates."""

import re
from collections.abc import Mapping

import torch
from torch import nn

from trainables.adapters.scaled_update import list_scaled_layers
from trainables.recipe import OptimRecipe

_BLOCK = re.compile(r"(?:^|\.)image_encoder\.trunk\.blocks\.(\d+)\.")
_TRUNK = re.compile(r"(?:^|\.)image_encoder\.trunk\.")


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Sets each group's learning rate to ``lr`` times the group's ``lr_scale``, 1 if it has none."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("lr_scale", 1.0)


def build_optimizer(model: nn.Module, recipe: OptimRecipe) -> torch.optim.AdamW:
    """Builds AdamW (Loshchilov and Hutter 2019); vectors and scalars (biases, norms) are not decayed.

    The model may be bare or adapted; parameters that do not require a gradient are left out. On a GPU a step is one
    kernel.
    """
    scales: Mapping[str, float] = list_lr_scales(model, recipe.layer_decay)
    if recipe.update_lr:
        ratio, update_scales = recipe.update_lr / recipe.lr, list_update_scales(model)
        scales = {name: scale * ratio / update_scales.get(name, ratio) for name, scale in scales.items()}
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups.setdefault((scales[name], parameter.ndim > 1), []).append(parameter)
    # Highest rate first, matrices before vectors: an order that depends on nothing but the groups themselves.
    return torch.optim.AdamW(
        [
            {
                "params": groups[scale, is_matrix],
                "weight_decay": recipe.weight_decay if is_matrix else 0.0,
                "lr": recipe.lr * scale,
                "lr_scale": scale,
            }
            for scale, is_matrix in sorted(groups, reverse=True)
        ],
        lr=recipe.lr,
        fused=True if any(parameter.is_cuda for parameter in model.parameters()) else None,
    )


def list_lr_scales(model: nn.Module, layer_decay: float) -> dict[str, float]:
    """Returns the factor of each parameter's learning rate, by its name, in (0, 1].

    As BEiT (Bao et al. 2022) and MAE (He et al. 2022) are fine-tuned: the last of the image encoder's n blocks has
    ``layer_decay``, the one below it its square, the first its n-th power; patch and position embeddings, which lie
    below the blocks, have the power n + 1. All else (neck, prompt encoder, mask decoder) has 1. Adapters belong to the
    block in which they sit.
    """
    names = [name for name, _ in model.named_parameters()]
    blocks = {name: int(match[1]) for name in names if (match := _BLOCK.search(name))}
    n_blocks = max(blocks.values(), default=-1) + 1
    depths = {name: n_blocks - blocks.get(name, -1) if _TRUNK.search(name) else 0 for name in names}
    return {name: layer_decay**depth for name, depth in depths.items()}


def list_update_scales(model: nn.Module) -> dict[str, float]:
    """Returns by what each adapter's update is multiplied, by the names of its parameters; DoRA's magnitudes have none.

    Adam's steps have the length of the learning rate, whatever the gradient: an update grows by the product of rate and
    scale, which cannot be searched well by its parts (rsLoRA, Kalajdzievski 2023, arXiv 2312.03732; LoRA+, Hayou et al.
    2024, arXiv 2402.12354). Divided by the scale, the rate alone says how fast.
    """
    layers = {id(layer): layer.scaling for layer in list_scaled_layers(model)}
    return {
        f"{name}.{inner}": next(iter(layers[id(layer)].values()))
        for name, layer in model.named_modules()
        if id(layer) in layers
        for inner, _ in layer.named_parameters()
        if "base_layer." not in inner and "magnitude" not in inner
    }

"""AdamW, and a learning rate that warms up by steps and then follows a cosine."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from trainables.recipe import OptimRecipe


def build_optimizer(parameters: Iterable[nn.Parameter], recipe: OptimRecipe) -> torch.optim.AdamW:
    """Builds AdamW (Loshchilov and Hutter 2019); vectors and scalars (biases, norms) are not decayed."""
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    matrices = [parameter for parameter in trained if parameter.ndim > 1]
    vectors = [parameter for parameter in trained if parameter.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": recipe.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=recipe.lr)


def compute_lr(step: int, n_steps: int, recipe: OptimRecipe) -> float:
    """Returns the learning rate of one step.

    Args:
        step: Counted from 0.
        n_steps: Steps of the whole fine-tune.
        recipe: Peak, end, and share of steps that warm up linearly; a cosine leads from peak to end.
    """
    # Rounded first: 0.07 * 100 is a little more than 7, and no eighth step is meant.
    lr_warmup_steps = math.ceil(round(recipe.warmup_fraction * n_steps, 6))
    if step < lr_warmup_steps:
        return recipe.lr * (step + 1) / lr_warmup_steps
    rest = max(1, n_steps - 1 - lr_warmup_steps)
    progress = min(1.0, (step - lr_warmup_steps) / rest)
    end = recipe.lr * recipe.lr_end_fraction
    return end + (recipe.lr - end) * 0.5 * (1 + math.cos(math.pi * progress))

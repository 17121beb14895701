"""Terms against forgetting: distillation from zero-shot, L2 towards the start, drop of the adapters' scale.

Distillation: Hinton et al. 2015 (arXiv 1503.02531), against forgetting Li and Hoiem 2016 (arXiv 1606.09282); L2 towards
the start: L2-SP, Li et al. 2018 (arXiv 1802.01483).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.adapters.scaled_update import list_scaled_layers, scale_adapters
from trainables.recipe import RecipeError, RegulariseRecipe


@dataclass(frozen=True)
class Regularisers:
    """The regularisers of one fine-tune, with the seed of the random scales.

    ``start`` holds the trained parameters as they were before training, by name; it is empty where no term needs them.
    """

    recipe: RegulariseRecipe
    seed: int
    start: Mapping[str, Float[Tensor, ...]]

    @contextmanager
    def drop_updates(self, model: nn.Module, step: int) -> Iterator[None]:
        """Scales the adapters' updates inside the block, as drawn for the optimizer step; does nothing without drop."""
        if not self.recipe.drop:
            yield
            return
        with scale_adapters(model, draw_scale(self.recipe.drop, self.seed, step)):
            yield

    def compute_penalties(
        self,
        model: nn.Module,
        logits: Float[Tensor, "objects masks h w"],
        zero_shot: Float[Tensor, "objects masks h w"] | None,
    ) -> dict[str, Float[Tensor, ""]]:
        """Returns each term that has a weight, unweighted: ``distill``, ``l2_start``.

        Distillation needs the candidate masks of the same model without adapters.
        """
        found = {}
        if self.recipe.distill:
            assert zero_shot is not None
            found["distill"] = distillation_loss(logits, zero_shot)
        if self.recipe.l2_start:
            found["l2_start"] = measure_distance(model, self.start)
        return found


def start_regularisers(model: nn.Module, recipe: RegulariseRecipe, seed: int) -> Regularisers:
    """Copies the trained parameters, on their device, if the recipe needs their start.

    To be called before training and before a checkpoint is loaded: a resumed fine-tune is drawn towards the same start.

    Raises:
        RecipeError: If updates are to be dropped and there are none, as all their layers are trained in full.
    """
    if recipe.drop and not list_scaled_layers(model):
        what = f"regularise.drop ({recipe.drop:g}) finds no adapter: the parts where it would sit are trained in full"
        fix = "set regularise.drop to 0, or change adapter.targets, adapter.train_encoder or adapter.train_decoder"
        raise RecipeError.at("regularise.drop", what, fix)
    trained = model.named_parameters() if recipe.l2_start else ()
    start = {name: value.detach().clone() for name, value in trained if value.requires_grad}
    return Regularisers(recipe, seed, start)


def distillation_loss(
    logits: Float[Tensor, "objects masks h w"], zero_shot: Float[Tensor, "objects masks h w"]
) -> Float[Tensor, ""]:
    """Binary cross-entropy to the zero-shot model's probabilities (temperature 1), a mean over all pixels.

    It covers every candidate mask and also pixels without annotation; objects weigh alike. The minimum, where both
    models agree, is above 0 unless the zero-shot model is certain. No gradient flows to ``zero_shot``.
    """
    probability = zero_shot.detach().float().sigmoid()
    return F.binary_cross_entropy_with_logits(logits.float(), probability)


def measure_distance(model: nn.Module, start: Mapping[str, Float[Tensor, ...]]) -> Float[Tensor, ""]:
    """Returns half the squared distance of the parameters to their start (not empty), summed over all of them."""
    parameters = dict(model.named_parameters())
    squares = [(parameters[name] - value).square().sum() for name, value in start.items()]
    return 0.5 * torch.stack(squares).sum()


def draw_scale(drop: float, seed: int, step: int) -> float:
    """Returns one step's scale, uniform in [1 - drop, 1]; it depends on the arguments alone."""
    return 1 - drop * float(np.random.default_rng((seed, step)).random())

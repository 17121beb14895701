"""A model in training at another scale of its update: multiplied, or, whole, between zero-shot and itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from torch import nn

from trainables.adapters.adapted_model import AdaptedModel, get_base
from trainables.model.class_prompts import find_class_prompts
from trainables.model.fusion import find_fusion

if TYPE_CHECKING:
    from peft.tuners.lora import LoraLayer
    from peft.tuners.lycoris_utils import LycorisLayer

# Kinds whose update is a product that PEFT multiplies by one number, and no adapter beside trained parts.
LINEAR_KINDS = ("none", "lora", "rslora", "loha", "lokr")


def list_scaled_layers(model: nn.Module) -> list[LoraLayer | LycorisLayer]:
    """Returns the layers whose update PEFT multiplies by a scale: of LoRA and its variants, LoHa and LoKr."""
    from peft.tuners.lora import LoraLayer
    from peft.tuners.lycoris_utils import LycorisLayer

    return [module for module in model.modules() if isinstance(module, (LoraLayer, LycorisLayer))]


@contextmanager
def scale_adapters(model: nn.Module, scale: float) -> Iterator[None]:
    """Multiplies every update by ``scale`` inside the block, but not parts that are trained in full.

    The forward pass must be inside; where activations are checkpointed, the backward pass as well. A scale of 0
    switches off LoRA's, LoHa's and LoKr's updates, and leaves DoRA's magnitudes.
    """
    layers = list_scaled_layers(model)
    # Restored, not divided by the scale: that rounds, and a scale may be 0.
    before = [dict(layer.scaling) for layer in layers]
    try:
        for layer in layers:
            layer.scale_layer(scale)
        yield
    finally:
        for layer, scaling in zip(layers, before, strict=True):
            layer.scaling.update(scaling)


def can_scale(adapted: AdaptedModel) -> bool:
    """Returns whether :func:`scale_update` takes other scales than 1.

    DoRA and PiSSA can only be scaled once they are merged; bottleneck adapters, a fusion and class prompts never.
    """
    base = get_base(adapted)
    has_more = find_fusion(base) is not None or find_class_prompts(base) is not None
    return adapted.recipe.kind in LINEAR_KINDS and not has_more


@contextmanager
def scale_update(adapted: AdaptedModel, scale: float) -> Iterator[None]:
    """Makes the model, inside the block, what :func:`~trainables.adapters.interpolation.interpolate_weights` gives.

    The two are equal to rounding, as adapters stay beside the weights. Nothing is written to what is trained; at scale
    1 the model is as it was.
    """
    if scale == 1:
        yield
        return
    with scale_adapters(adapted, scale), adapted.trained.put_back(scale):
        yield

"""A model in training at a scale of its update, without merging: half way to zero-shot and back, bit for bit."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from trainables.adapters.adapted_model import AdaptedModel, get_base, list_trained_weights
from trainables.adapters.interpolation import LINEAR_FACTORS
from trainables.model.class_prompts import find_class_prompts
from trainables.model.fusion import find_fusion

# Kinds whose update is linear in one of its factors; parts that are trained in full are interpolated.
LINEAR_KINDS = ("none", "lora", "rslora", "loha", "lokr")


def can_scale(adapted: AdaptedModel) -> bool:
    """Returns whether :func:`scale_update` takes other scales than 1.

    DoRA and PiSSA can only be scaled once they are merged; bottleneck adapters, a fusion and class prompts never.
    """
    base = get_base(adapted)
    is_more = find_fusion(base) is not None or find_class_prompts(base) is not None
    return adapted.recipe.kind in LINEAR_KINDS and not is_more


@contextmanager
def scale_update(adapted: AdaptedModel, scale: float) -> Iterator[None]:
    """Makes the model, inside the block, what :func:`~trainables.adapters.interpolation.interpolate_weights` gives.

    The two are equal to rounding, as the update stays beside the weights. The scale is not negative; at 1 the model is
    as it was.
    """
    if scale == 1:
        yield
        return
    factors = [value for name, value in list_trained_weights(adapted).items() if name.endswith(LINEAR_FACTORS)]
    parts = list(adapted.trained.current().values())
    kept = [value.detach().clone() for value in (*factors, *parts)]
    with torch.no_grad():
        for value in factors:
            value.mul_(scale)
        for value, original in zip(parts, adapted.trained.copies, strict=True):
            value.copy_(torch.lerp(original.to(value.device), value, scale))
    try:
        yield
    finally:
        with torch.no_grad():
            for value, before in zip((*factors, *parts), kept, strict=True):
                value.copy_(before)

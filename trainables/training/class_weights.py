"""How much the objects of each class weigh in the loss."""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor

from trainables.data.store import RegionStore


def weigh_classes(store: RegionStore, names: Iterable[str], strength: float) -> Float[Tensor, " classes"]:
    """Weighs each class by a power of its inverse pixel frequency in the named training regions.

    Strength 1 gives the recorded weights (the most frequent class over this one), 0 weighs all alike. They are scaled
    so that a (region, class) pair of the training set weighs 1 on average: the learning rate keeps its meaning.
    """
    pixels = store.class_pixels[[store.index(name) for name in names]]
    totals = pixels.sum(axis=0).clip(min=1)
    weights = (totals.max() / totals) ** strength
    objects = (pixels > 0).sum(axis=0)
    mean = float((weights * objects).sum() / objects.sum()) if objects.any() else 1.0
    return torch.tensor(weights / mean, dtype=torch.float32)

"""SAM2's training loss: focal and Dice over the best of the candidate masks, predicted IoU, objectness.

The definitions follow ``training/loss_fns.py`` of the SAM2 repository (Ravi et al. 2024, arXiv 2408.00714);
focal loss is Lin et al. 2017 (arXiv 1708.02002), the soft Dice loss Milletari et al. 2016 (arXiv 1606.04797).
"""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from trainables.data.store import RegionStore
from trainables.model.forward import MaskOutputs
from trainables.recipe import LossRecipe

# The weighted ``total``, and each part before its weight, by the name of its weight in the recipe.
Losses = dict[str, Float[Tensor, ""]]


def focal_loss(
    logits: Float[Tensor, "*batch h w"],
    targets: Float[Tensor, "*batch h w"],
    gamma: float,
    alpha: float,
    valid: Float[Tensor, "*batch h w"] | None = None,
) -> Float[Tensor, "*batch"]:
    """Returns the sigmoid focal loss, averaged over pixels.

    Args:
        logits: Any range.
        targets: In [0, 1]; fractions where a low-resolution pixel lies across a border.
        gamma: How much less well-classified pixels count; 0 is binary cross-entropy.
        alpha: Weight of foreground in [0, 1], background gets the rest; below 0 both weigh 1.
        valid: Share of each pixel that counts, in [0, 1]; None where all do.
    """
    probability = logits.sigmoid()
    cross_entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    p_true = probability * targets + (1 - probability) * (1 - targets)
    # A zero base with a fractional gamma has an infinite slope.
    loss = cross_entropy * (1 - p_true).clamp_min(1e-8) ** gamma
    if alpha >= 0:
        loss = loss * (alpha * targets + (1 - alpha) * (1 - targets))
    if valid is None:
        return loss.flatten(-2).mean(-1)
    return (loss * valid).flatten(-2).sum(-1) / valid.flatten(-2).sum(-1).clamp_min(1)


def dice_loss(
    logits: Float[Tensor, "*batch h w"],
    targets: Float[Tensor, "*batch h w"],
    valid: Float[Tensor, "*batch h w"] | None = None,
) -> Float[Tensor, "*batch"]:
    """Returns one minus soft Dice with one pixel of smoothing, in [0, 1]; ``valid`` as in :func:`focal_loss`."""
    probability = logits.sigmoid()
    if valid is not None:
        probability, targets = probability * valid, targets * valid
    probability, targets = probability.flatten(-2), targets.flatten(-2)
    overlap = 2 * (probability * targets).sum(-1)
    return 1 - (overlap + 1) / (probability.sum(-1) + targets.sum(-1) + 1)


def measure_iou(
    logits: Float[Tensor, "*batch h w"],
    targets: Float[Tensor, "*batch h w"],
    valid: Float[Tensor, "*batch h w"] | None = None,
) -> Float[Tensor, "*batch"]:
    """Returns the IoU of the thresholded mask with the thresholded target, in [0, 1]; 0 if both are empty.

    Pixels that are less than half valid belong to neither.
    """
    predicted, actual = logits > 0, targets > 0.5
    if valid is not None:
        predicted, actual = predicted & (valid > 0.5), actual & (valid > 0.5)
    predicted, actual = predicted.flatten(-2), actual.flatten(-2)
    union = (predicted | actual).sum(-1)
    return (predicted & actual).sum(-1) / union.clamp_min(1)


def compute_loss(
    outputs: MaskOutputs,
    targets: Float[Tensor, "objects h4 w4"],
    object_weights: Float[Tensor, " objects"],
    weights: LossRecipe,
    valid: Float[Tensor, "objects h4 w4"] | None = None,
    focal_alpha: float = 0.25,
) -> Losses:
    """Computes the loss of a batch of objects.

    The parts ``focal``, ``dice``, ``iou`` and ``objectness`` are means over the objects. Only the candidate with the
    least weighted focal + Dice is trained, so that candidates may specialize; the IoU head learns from all of them.
    Every prompt shows an object, so the target of objectness is 1.

    Args:
        outputs: From :func:`trainables.model.forward.decode_prompts`.
        targets: The prompted masks in [0, 1], averaged down to the logits' resolution.
        object_weights: Weight of each object (of its class), at least 0; weighted losses are averaged.
        weights: Weight of each part, and the focal loss's gamma.
        valid: Share of each pixel that counts, in [0, 1]; None where all do.
        focal_alpha: As in :func:`focal_loss`.
    """
    logits = outputs.logits.float()
    repeated = targets[:, None].expand_as(logits)
    counted = None if valid is None else valid[:, None].expand_as(logits)
    focal = focal_loss(logits, repeated, weights.focal_gamma, focal_alpha, counted)
    dice = dice_loss(logits, repeated, counted)
    best = (weights.focal * focal + weights.dice * dice).argmin(dim=1, keepdim=True)
    iou_error = (outputs.iou.float() - measure_iou(logits, repeated, counted)).abs().mean(1)
    objectness = outputs.objectness.float()[:, 0]
    object_error = F.binary_cross_entropy_with_logits(objectness, torch.ones_like(objectness), reduction="none")
    by_object = {
        "focal": focal.gather(1, best)[:, 0],
        "dice": dice.gather(1, best)[:, 0],
        "iou": iou_error,
        "objectness": object_error,
    }
    parts = {name: (value * object_weights).mean() for name, value in by_object.items()}
    total = logits.new_zeros(())
    for name, part in parts.items():
        total = total + getattr(weights, name) * part
    return {"total": total, **parts}


def compute_validation_loss(
    logits: Float[Tensor, "pairs h4 w4"], targets: Float[Tensor, "pairs h4 w4"], valid: Float[Tensor, "h4 w4"]
) -> Float[Tensor, " pairs"]:
    """Returns the loss of each class's mask in one region: cross-entropy plus soft Dice (if the class is there).

    That is nnU-Net's (Isensee et al. 2021), whatever a recipe trains with, so that trials can be compared. Targets and
    ``valid`` are as in :func:`compute_loss`.
    """
    counted = valid.expand_as(logits)
    dice = dice_loss(logits, targets, counted) * (targets.flatten(-2).sum(-1) > 0)
    return focal_loss(logits, targets, gamma=0.0, alpha=-1.0, valid=counted) + dice


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

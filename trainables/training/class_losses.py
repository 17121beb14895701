"""The loss of learned class prompts: one name for each pixel, not one mask for each object.

Cross-entropy over classes, focal if the recipe says so (Lin et al. 2017, arXiv 1708.02002), with the soft Dice loss
of each class (Milletari et al. 2016, arXiv 1606.04797), and the cross-entropy of the decoder's object score.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from trainables.model.class_prompts import ClassOutputs
from trainables.recipe import LossRecipe
from trainables.training.losses import Losses


def compute_class_loss(
    outputs: ClassOutputs,
    targets: Float[Tensor, "regions names h4 w4"],
    name_weights: Float[Tensor, " names"],
    weights: LossRecipe,
) -> Losses:
    """Computes the loss of a batch of regions.

    The parts are ``focal``, ``dice`` and ``objectness``. Pixels without a name in the targets are ignored. Dice is
    taken over the whole batch for each name that the batch shows: the Dice of an absent class does not depend on how
    much of it was predicted, and cross-entropy punishes that already. Objectness learns whether a region shows a name.
    A batch that is trained in parts gets the Dice of each part, which is not quite that of the whole.

    Args:
        outputs: From :func:`trainables.model.class_prompts.decode_classes`.
        targets: Share of each low-resolution pixel that has each name, background as the last; sums are in [0, 1].
        name_weights: Weight of each name in the cross-entropy, above 0.
        weights: Weight of each part; that of the predicted IoU has no effect.
    """
    log_probability = outputs.logits.float().log_softmax(dim=1)
    focal = focal_cross_entropy(log_probability, targets, name_weights, weights.focal_gamma)
    dice = class_dice_loss(log_probability.exp(), targets)
    present = (targets.flatten(-2).sum(-1) > 0).float()
    objectness = F.binary_cross_entropy_with_logits(outputs.objectness.float(), present)
    total = weights.focal * focal + weights.dice * dice + weights.objectness * objectness
    return {"total": total, "focal": focal, "dice": dice, "objectness": objectness}


def focal_cross_entropy(
    log_probability: Float[Tensor, "regions names h w"],
    targets: Float[Tensor, "regions names h w"],
    name_weights: Float[Tensor, " names"],
    gamma: float,
) -> Float[Tensor, ""]:
    """Returns the cross-entropy over names, averaged over pixels by the weights of their names.

    Exponentiated, the log-probabilities sum to 1 over names; targets and weights are those of
    :func:`compute_class_loss`. ``gamma`` plays well-classified pixels down; 0 is plain cross-entropy.
    """
    counted = targets * name_weights.view(1, -1, 1, 1)
    # A zero base with a fractional gamma has an infinite slope.
    focus = (1 - log_probability.exp()).clamp_min(1e-8) ** gamma if gamma else torch.ones_like(log_probability)
    return -(counted * focus * log_probability).sum() / counted.sum().clamp_min(1e-6)


def class_dice_loss(
    probability: Float[Tensor, "regions names h w"], targets: Float[Tensor, "regions names h w"]
) -> Float[Tensor, ""]:
    """Returns one minus soft Dice with one pixel of smoothing, a mean over the names that the batch shows.

    Rare and frequent names count alike without weights; with them, the rarest slowed down all others.
    """
    valid = targets.sum(dim=1, keepdim=True)
    overlap = 2 * (probability * targets).sum((0, 2, 3))
    areas = (probability * valid).sum((0, 2, 3)) + targets.sum((0, 2, 3))
    loss = 1 - (overlap + 1) / (areas + 1)
    shown = targets.sum((0, 2, 3)) > 0
    return (shown * loss).sum() / shown.sum().clamp_min(1)

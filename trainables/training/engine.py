"""One epoch of training, in plain PyTorch."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from sam2.modeling.sam2_base import SAM2Base
from torch import Tensor

from trainables.adapters.adapted_model import AdaptedModel, adapters_off, get_base
from trainables.data.store import RegionStore
from trainables.errors import TrainablesError
from trainables.evaluation.evaluator import autocast
from trainables.model.class_prompts import ClassOutputs, decode_classes, find_class_prompts
from trainables.model.forward import MaskOutputs, decode_prompts, encode_images
from trainables.recipe import LossRecipe, Recipe
from trainables.training.batches import Batch
from trainables.training.class_losses import ClassLossParts, compute_class_loss
from trainables.training.losses import LossParts, LossWeights, compute_loss
from trainables.training.micro_batches import MicroBatches
from trainables.training.optim import Schedule, compute_lr, set_lr
from trainables.training.regularisers import Regularisers


class DivergedError(TrainablesError):
    """The loss became NaN or infinite."""


@dataclass(frozen=True)
class EpochReport:
    """What one epoch did.

    Attributes:
        losses: Means over steps: ``total`` and each part before its weight; regularisers only where they have one.
        lr: Learning rate of the last step.
        images_per_s: Training regions a second, data loading included.
        step: Optimizer steps since the start of the fine-tune.
        regions_per_pass: Regions that went through the model at once, where whole batches did not fit; else None.
    """

    losses: dict[str, float]
    lr: float
    images_per_s: float
    step: int
    regions_per_pass: int | None = None


def count_steps(n_regions: int, batch_size: int) -> int:
    """Returns the optimizer steps of an epoch; the last batch may be smaller."""
    return math.ceil(n_regions / batch_size)


def weigh_classes(store: RegionStore, names: Iterable[str], strength: float) -> Float[Tensor, " classes"]:
    """Weighs each class by a power of its inverse pixel frequency in the training regions.

    Strength 1 gives the recorded weights (the most frequent class over this one), 0 weighs all alike. They
    are scaled so that a (region, class) pair of the training set weighs 1 on average, lest they change the
    learning rate.

    Args:
        store: Where pixels were counted.
        names: The training regions.
        strength: In [0, 1].
    """
    pixels = store.class_pixels[[store.index(name) for name in names]]
    totals = pixels.sum(axis=0).clip(min=1)
    weights = (totals.max() / totals) ** strength
    objects = (pixels > 0).sum(axis=0)
    mean = float((weights * objects).sum() / objects.sum()) if objects.any() else 1.0
    return torch.tensor(weights / mean, dtype=torch.float32)


def to_loss_weights(recipe: LossRecipe) -> LossWeights:
    """Returns the recipe's part weights."""
    return LossWeights(recipe.focal, recipe.dice, recipe.iou, recipe.objectness, recipe.focal_gamma)


def train_epoch(
    adapted: AdaptedModel,
    batches: Iterable[Batch],
    optimizer: torch.optim.Optimizer,
    recipe: Recipe,
    class_weights: Float[Tensor, " classes"],
    device: torch.device,
    first_step: int,
    schedule: Schedule,
    regularisers: Regularisers,
    micro_batches: MicroBatches,
) -> EpochReport:
    """Trains the adapters on one pass over the regions.

    Args:
        adapted: From :func:`trainables.adapters.adapted_model.attach_adapters`; left in training mode.
        batches: From :func:`trainables.training.batches.iterate_batches`.
        optimizer: Over the trainable parameters.
        recipe: The fine-tune.
        class_weights: From :func:`weigh_classes`.
        device: Where the model lies.
        first_step: Optimizer steps taken before this epoch.
        schedule: The learning rate of the whole fine-tune.
        regularisers: From :func:`trainables.training.regularisers.start_regularisers`, of the same recipe.
        micro_batches: Splits batches that the memory does not hold; remembers how far.

    Raises:
        DivergedError: If the loss is NaN or infinite, with the step and the learning rate.
        OutOfMemoryError: If not even one region fits the GPU.
        TrainablesError: If no batch holds an object: there is nothing to learn from.
    """
    adapted.train()
    start, step, n_images, lr = time.perf_counter(), first_step, 0, 0.0
    sums: dict[str, Tensor] = {}
    class_weights = class_weights.to(device)
    trained = [parameter for parameter in adapted.parameters() if parameter.requires_grad]
    for batch in batches:
        lr = compute_lr(step, schedule)
        set_lr(optimizer, lr)
        compute_losses = functools.partial(
            compute_batch_losses,
            adapted,
            class_weights=class_weights,
            recipe=recipe.loss,
            regularisers=regularisers,
            device=device,
            step=step,
        )
        zero_grad = functools.partial(optimizer.zero_grad, set_to_none=True)
        parts = micro_batches.backward(batch.to(device), compute_losses, zero_grad)
        if not torch.isfinite(parts["total"]):
            where = f"at step {step + 1} of {schedule.n_steps} (learning rate {lr:.3g})"
            raise DivergedError(f"the loss became {float(parts['total'].detach())} {where}")
        if recipe.optim.grad_clip:
            torch.nn.utils.clip_grad_norm_(trained, recipe.optim.grad_clip)
        optimizer.step()
        for name, value in parts.items():
            sums[name] = sums.get(name, torch.zeros((), device=device)) + value.detach()
        step, n_images = step + 1, n_images + len(batch.images)
    if step == first_step:
        raise TrainablesError("no training region shows a class in components that the protocol prompts")
    losses = {name: float(value) / (step - first_step) for name, value in sums.items()}
    speed = n_images / (time.perf_counter() - start)
    return EpochReport(losses, lr, speed, step, micro_batches.regions_per_pass)


def compute_batch_losses(
    adapted: AdaptedModel,
    batch: Batch,
    class_weights: Float[Tensor, " classes"],
    recipe: LossRecipe,
    regularisers: Regularisers,
    device: torch.device,
    step: int,
) -> dict[str, Float[Tensor, ""]]:
    """Runs the promptable forward pass on one batch; returns the ``total`` loss and each part before its weight.

    Args:
        adapted: In training mode.
        batch: On the device.
        class_weights: From :func:`weigh_classes`.
        recipe: Weights of the loss's parts.
        regularisers: Weights of the terms against forgetting; those of weight 0 are not computed.
        device: Where the model lies.
        step: Optimizer steps since the start of the fine-tune.
    """
    weights = regularisers.recipe
    # First, as taking adapters off and putting them on again must not come between forward and backward pass.
    zero_shot = segment_zero_shot(adapted, batch, device).logits if weights.distill else None
    base = get_base(adapted)
    outputs: MaskOutputs | ClassOutputs
    parts: LossParts | ClassLossParts
    with regularisers.drop_updates(adapted, step):
        if find_class_prompts(base) is None:
            outputs = segment_batch(base, batch, device)
        else:
            outputs = name_batch(base, batch, device)
    if isinstance(outputs, ClassOutputs):
        targets = batch.targets.view_as(outputs.logits)
        # Background, whose pixels are not counted, weighs what the most frequent class weighs.
        name_weights = torch.cat([class_weights, class_weights.min()[None]])
        parts = compute_class_loss(outputs, targets, name_weights, to_loss_weights(recipe))
    else:
        object_weights = class_weights[batch.class_index]
        parts = compute_loss(outputs, batch.targets, object_weights, to_loss_weights(recipe), batch.valid)
    penalties = regularisers.compute_penalties(adapted, outputs.logits, zero_shot)
    total = parts.total
    for name, penalty in penalties.items():
        total = total + getattr(weights, name) * penalty
    return {**parts._asdict(), **penalties, "total": total}


def segment_batch(model: SAM2Base, batch: Batch, device: torch.device) -> MaskOutputs:
    """Runs the promptable forward pass: three candidate masks for each object."""
    with autocast(device):
        features = encode_images(model, batch.images)
        return decode_prompts(model, features, batch.region_index, batch.points, batch.labels, multimask=True)


def name_batch(model: SAM2Base, batch: Batch, device: torch.device) -> ClassOutputs:
    """Asks for every class in every region by the model's own class prompts."""
    with autocast(device):
        return decode_classes(model, encode_images(model, batch.images))


def segment_zero_shot(adapted: AdaptedModel, batch: Batch, device: torch.device) -> MaskOutputs:
    """Runs the same pass on the zero-shot model: the same network, adapters off, without dropout or gradients.

    The images are encoded anew, which adds about a third to a step's time, and nothing to what the backward pass
    keeps in memory. The model is left in training mode.
    """
    adapted.eval()
    try:
        with torch.no_grad(), adapters_off(adapted) as base:
            return segment_batch(base, batch, device)
    finally:
        adapted.train()

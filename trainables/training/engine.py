"""One epoch of training, in plain PyTorch."""

import functools
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from sam2.modeling.sam2_base import SAM2Base
from torch import Tensor

from trainables.adapters.adapted_model import AdaptedModel, adapters_off, get_base
from trainables.errors import TrainablesError
from trainables.evaluation.evaluator import autocast
from trainables.model.class_prompts import decode_classes, find_class_prompts
from trainables.model.device import forget_peak_memory, read_peak_memory_mb
from trainables.model.forward import MaskOutputs, decode_prompts
from trainables.model.frozen_prefix import FrozenPrefix, encode_reusing
from trainables.training.batches import Batch
from trainables.training.class_losses import compute_class_loss
from trainables.training.losses import Losses, compute_loss
from trainables.training.optim import set_lr
from trainables.training.state import TrainingState


class DivergedError(TrainablesError):
    """The loss became NaN or infinite."""


@dataclass(frozen=True)
class EpochReport:
    """The figures of one epoch.

    Attributes:
        losses: Means over steps: ``total`` and each part before its weight; regularisers only where they have one.
        lr: Learning rate of the last step.
        images_per_s: Training regions a second, data loading included.
        data_wait_fraction: Share of the time in which training waited for the next batch, in [0, 1].
        peak_memory_mb: See :func:`~trainables.model.device.read_peak_memory_mb`.
        regions_per_pass: Regions that went through the model at once, where whole batches did not fit; else None.
        is_checkpointing: Whether activations were computed again in the backward pass, as they did not fit.
    """

    losses: dict[str, float]
    lr: float
    images_per_s: float
    data_wait_fraction: float
    peak_memory_mb: float
    regions_per_pass: int | None = None
    is_checkpointing: bool = False


def train_epoch(state: TrainingState, batches: Iterable[Batch]) -> EpochReport:
    """Trains the adapters on one pass over the regions, a step a batch; the model is left in training mode.

    Raises:
        DivergedError: If the loss is NaN or infinite, with the step and the learning rate.
        RegionTooLargeError: If not even one region fits the GPU.
        TrainablesError: If no batch holds an object: there is nothing to learn from.
    """
    state.adapted.train()
    forget_peak_memory(state.device)
    start, first_step, n_images, lr = time.perf_counter(), state.step, 0, 0.0
    sums: dict[str, Tensor] = {}
    waits_s: list[float] = []
    for batch in send_ahead(_time_waits(batches, waits_s), state.device):
        lr = state.schedule.compute_lr(state.step)
        for name, value in take_step(state, batch, lr).items():
            sums[name] = sums.get(name, torch.zeros((), device=state.device)) + value
        n_images += len(batch.images)
    if state.step == first_step:
        raise TrainablesError("no training region shows a class in components that the protocol prompts")
    losses = {name: float(value) / (state.step - first_step) for name, value in sums.items()}
    seconds = time.perf_counter() - start
    return EpochReport(
        losses,
        lr,
        images_per_s=n_images / seconds,
        data_wait_fraction=sum(waits_s) / seconds,
        peak_memory_mb=read_peak_memory_mb(state.device),
        regions_per_pass=state.micro_batches.regions_per_pass,
        is_checkpointing=state.micro_batches.is_checkpointing,
    )


def _time_waits(batches: Iterable[Batch], waits_s: list[float]) -> Iterator[Batch]:
    """Hands batches on, and notes how long it waited for each of them, and for their end."""
    asked = time.perf_counter()
    for batch in batches:
        waits_s.append(time.perf_counter() - asked)
        yield batch
        asked = time.perf_counter()
    waits_s.append(time.perf_counter() - asked)


def send_ahead(batches: Iterable[Batch], device: torch.device) -> Iterator[Batch]:
    """Yields the batches on the device; a GPU copies each one, if it is pinned, while it computes on the one before."""
    if device.type != "cuda":
        yield from (batch.to(device) for batch in batches)
        return
    copying = _open_copy_stream(device)
    computing = torch.cuda.current_stream(device)
    sent: list[tuple[Batch, torch.cuda.Event]] = []

    def receive() -> Batch:
        batch, copied = sent.pop(0)
        computing.wait_event(copied)
        for value in filter(torch.is_tensor, vars(batch).values()):
            value.record_stream(computing)  # else its memory could be given to the next copy
        return batch

    for batch in batches:
        with torch.cuda.stream(copying):
            sent.append((batch.to(device), copying.record_event()))
        if len(sent) > 1:
            yield receive()
    if sent:
        yield receive()


@functools.cache
def _open_copy_stream(device: torch.device) -> torch.cuda.Stream:
    """Returns this process's stream for copies: PyTorch keeps freed memory for the stream that it was taken on."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def take_step(state: TrainingState, batch: Batch, lr: float) -> Losses:
    """Takes one optimizer step; returns the batch's ``total`` loss and each part before its weight.

    Raises:
        DivergedError: If the loss is NaN or infinite; the model is left as it was.
    """
    set_lr(state.optimizer, lr)
    compute_losses = functools.partial(compute_batch_losses, state)
    with state.regularisers.drop_updates(state.adapted, state.step):
        losses = state.micro_batches.backward(batch, compute_losses, state.optimizer.zero_grad)
    if not torch.isfinite(losses["total"]):
        where = f"at step {state.step + 1} of {state.schedule.n_steps} (learning rate {lr:.3g})"
        raise DivergedError(f"the loss became {float(losses['total'])} {where}")
    if state.recipe.optim.grad_clip:
        trained = [parameter for parameter in state.adapted.parameters() if parameter.requires_grad]
        torch.nn.utils.clip_grad_norm_(trained, state.recipe.optim.grad_clip)
    state.optimizer.step()
    if state.average is not None:
        state.average.update(state.step)
    state.step += 1
    return losses


def compute_batch_losses(state: TrainingState, batch: Batch) -> Losses:
    """Runs the promptable forward pass, in training mode, on one batch that lies on the device.

    Returns:
        The ``total`` loss and each part before its weight.
    """
    adapted, recipe = state.adapted, state.recipe
    # First, as taking adapters off and putting them on again must not come between forward and backward pass.
    zero_shot = (
        segment_zero_shot(adapted, batch, state.device, state.prefix).logits if recipe.regularise.distill else None
    )
    base = get_base(adapted)
    if find_class_prompts(base) is None:
        logits, losses = _compute_mask_losses(state, base, batch)
    else:
        logits, losses = _compute_class_losses(state, base, batch)
    penalties = state.regularisers.compute_penalties(adapted, logits, zero_shot)
    total = losses["total"]
    for name, penalty in penalties.items():
        total = total + getattr(recipe.regularise, name) * penalty
    return {**losses, **penalties, "total": total}


def _compute_mask_losses(state: TrainingState, base: SAM2Base, batch: Batch) -> tuple[Tensor, Losses]:
    """Returns the logits and the losses of masks for drawn prompts."""
    outputs = segment_batch(base, batch, state.device, state.prefix)
    weights = state.class_weights[batch.class_index]
    return outputs.logits, compute_loss(outputs, batch.targets, weights, state.recipe.loss, batch.valid)


def _compute_class_losses(state: TrainingState, base: SAM2Base, batch: Batch) -> tuple[Tensor, Losses]:
    """Returns the logits and the losses of the model's own class prompts, every class in every region."""
    with autocast(state.device):
        outputs = decode_classes(base, encode_reusing(state.prefix, base, batch.scale_images(), batch.pictures))
    # Background, whose pixels are not counted, weighs what the most frequent class weighs.
    weights = torch.cat([state.class_weights, state.class_weights.min()[None]])
    targets = batch.targets.view_as(outputs.logits)
    return outputs.logits, compute_class_loss(outputs, targets, weights, state.recipe.loss)


def segment_batch(
    model: SAM2Base, batch: Batch, device: torch.device, prefix: FrozenPrefix | None = None
) -> MaskOutputs:
    """Runs the promptable forward pass: three candidate masks for each object."""
    with autocast(device):
        features = encode_reusing(prefix, model, batch.scale_images(), batch.pictures)
        return decode_prompts(model, features, batch.region_index, batch.points, batch.labels)


def segment_zero_shot(
    adapted: AdaptedModel, batch: Batch, device: torch.device, prefix: FrozenPrefix | None = None
) -> MaskOutputs:
    """Runs the same pass on the zero-shot model: the same network, adapters off, without dropout or gradients.

    The images are encoded anew but for frozen blocks, which adds up to a third to a step's time, and nothing to what
    the backward pass keeps in memory. The model is left in training mode.
    """
    adapted.eval()
    try:
        with torch.no_grad(), adapters_off(adapted) as base:
            return segment_batch(base, batch, device, prefix)
    finally:
        adapted.train()

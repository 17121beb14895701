"""What is done where a batch does not fit a GPU: activation checkpointing, then gradient accumulation over parts."""

import logging
from collections.abc import Callable, Iterator

import torch

from trainables.errors import TrainablesError
from trainables.training.batches import Batch
from trainables.training.losses import Losses

logger = logging.getLogger(__name__)


class RegionTooLargeError(TrainablesError):
    """Not even a single region fits the GPU's memory."""


class MicroBatches:
    """Runs backward passes over batches, in as few parts as fit the memory.

    When a batch runs out of memory, it starts again with checkpointed activations; when that does not fit either, the
    size of the parts is halved each time. Later batches keep both. Gradients and the effective batch stay the recipe's.

    Attributes:
        regions_per_pass: Regions of a part; None while whole batches fit.
        is_checkpointing: Whether activations are checkpointed.
    """

    def __init__(self, begin_checkpointing: Callable[[], None] | None = None) -> None:
        """Takes what switches checkpointing on; None if nothing can."""
        self._begin_checkpointing = begin_checkpointing
        self.regions_per_pass: int | None = None
        self.is_checkpointing = False

    def backward(
        self, batch: Batch, compute_losses: Callable[[Batch], Losses], zero_grad: Callable[[], None]
    ) -> Losses:
        """Accumulates the gradients of a batch's total loss; returns the losses of the whole batch, detached.

        The batch lies on the device; ``compute_losses`` returns a part's ``total`` and other losses, each a mean over
        its objects.

        Raises:
            RegionTooLargeError: If a part of one region does not fit.
        """
        while True:
            zero_grad()
            try:
                return self._accumulate(batch, compute_losses)
            except torch.OutOfMemoryError:
                self._save_memory(len(batch.images))
            # Outside the except block, whose traceback keeps the tensors of the failed pass alive.
            if batch.images.is_cuda:
                torch.cuda.empty_cache()

    def _accumulate(self, batch: Batch, compute_losses: Callable[[Batch], Losses]) -> Losses:
        sums: Losses = {}
        for part, share in split_batch(batch, self.regions_per_pass or len(batch.images)):
            losses = compute_losses(part)
            # The caller reports a loss that is not finite; here it would only spoil the gradients.
            if torch.isfinite(losses["total"]):
                torch.autograd.backward(share * losses["total"])
            for name, value in losses.items():
                weighted = share * value.detach()
                sums[name] = sums[name] + weighted if name in sums else weighted
        return sums

    def _save_memory(self, n_regions: int) -> None:
        if self._begin_checkpointing is not None and not self.is_checkpointing:
            self._begin_checkpointing()
            self.is_checkpointing = True
            logger.warning("out of GPU memory: activations are computed again in the backward pass")
            return
        size = min(self.regions_per_pass or n_regions, n_regions)
        if size <= 1:
            raise RegionTooLargeError(
                "the GPU's memory does not hold a single region: use a smaller model, fewer objects "
                "(prompts.max_objects), or fewer trials on one GPU (--gpus-per-trial)"
            )
        self.regions_per_pass = size // 2
        logger.warning("out of GPU memory: batches are trained in parts of %d region(s)", self.regions_per_pass)


def split_batch(batch: Batch, regions_per_pass: int) -> Iterator[tuple[Batch, float]]:
    """Yields parts of a batch, each with its share of the objects; skips parts without objects.

    A mean over a batch's objects is the sum of its parts' means times these shares.
    """
    n_regions, n_objects = len(batch.images), len(batch.region_index)
    if regions_per_pass >= n_regions:
        yield batch, 1.0
        return
    for start in range(0, n_regions, regions_per_pass):
        chosen = (batch.region_index >= start) & (batch.region_index < start + regions_per_pass)
        if not chosen.any():
            continue
        part = Batch(
            images=batch.images[start : start + regions_per_pass],
            region_index=batch.region_index[chosen] - start,
            points=batch.points[chosen],
            labels=batch.labels[chosen],
            targets=batch.targets[chosen],
            class_index=batch.class_index[chosen],
            valid=batch.valid[chosen],
            pictures=batch.pictures[start : start + regions_per_pass],
        )
        yield part, int(chosen.sum()) / n_objects

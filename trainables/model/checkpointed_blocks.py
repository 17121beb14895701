"""Activation checkpointing of the image encoder: memory for time (Chen et al. 2016, arXiv 1604.06174)."""

import functools
import weakref
from collections.abc import Callable
from typing import Any

import torch
from sam2.modeling.sam2_base import SAM2Base
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def checkpoint_blocks(model: SAM2Base) -> None:
    """Lets each block of the image encoder keep its input alone for the backward pass, which computes the rest again.

    Gradients stay the same bit for bit on a CPU: dropout draws the same numbers again. A training step takes up to a
    third more time. What changes the blocks for a forward pass, as a scale of the updates does, must hold until the
    backward pass has ended. Passes without gradients stay as they are.
    """
    for block in model.image_encoder.trunk.blocks:
        # The function of the class, and the block by a weak reference: a model that nobody holds is freed at once.
        block.forward = functools.partial(_run, type(block).forward, weakref.ref(block))


def _run(forward_of: Callable[[nn.Module, Tensor], Tensor], find_block: Callable[[], Any], x: Tensor) -> Tensor:
    forward = functools.partial(forward_of, find_block())
    if not torch.is_grad_enabled():
        return forward(x)
    outputs: Tensor = checkpoint(forward, x, use_reentrant=False)
    return outputs

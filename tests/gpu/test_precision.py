"""bfloat16, in which a GPU computes, against float32: how far losses, gradients, masks and Dice may differ."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from trainables.adapters.adapted_model import get_base
from trainables.context import TrialContext
from trainables.data.store import RegionStore
from trainables.evaluation.evaluation_set import EvaluationSet
from trainables.evaluation.evaluator import evaluate, predict_masks
from trainables.training.engine import compute_batch_losses
from trainables.training.fine_tune import FineTune

LOSS_BOUND = 0.02  # relative
GRADIENT_COSINE = 0.98
MASK_IOU, DICE_BOUND = 0.97, 0.01


@pytest.fixture
def set_precision(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Lets training and evaluation compute in bfloat16, or in float32, on any device."""

    def choose(bf16: bool) -> None:
        for module in ("training.engine", "evaluation.evaluator"):
            monkeypatch.setattr(
                f"trainables.{module}.autocast",
                lambda device: torch.autocast(device.type, torch.bfloat16, enabled=bf16),
            )

    return choose


@pytest.fixture
def fit(context: TrialContext, device: torch.device, start: Callable[..., FineTune]) -> FineTune:
    """A fine-tune after its first epoch: LoRA's first factors get no gradient before."""
    found = start(context, device)
    found.train_epoch(0)
    return found


def test_the_loss_and_its_gradient(fit: FineTune, set_precision: Callable[[bool], None]) -> None:
    state, (batch, *_) = fit.state, fit.loader.load(1, fit.fold.train)
    losses, gradients = [], []
    for bf16 in (False, True):
        set_precision(bf16)
        state.adapted.zero_grad()
        loss = compute_batch_losses(state, batch.to(state.device))["total"]
        loss.backward()
        losses.append(float(loss.detach()))
        gradients.append(flatten_gradient(fit))
    assert losses[1] == pytest.approx(losses[0], rel=LOSS_BOUND)
    assert float(torch.cosine_similarity(*gradients, dim=0)) > GRADIENT_COSINE


def flatten_gradient(fit: FineTune) -> Tensor:
    return torch.cat([p.grad.flatten().float() for p in fit.state.adapted.parameters() if p.grad is not None])


def test_masks_and_their_dice(fit: FineTune, set_precision: Callable[[bool], None]) -> None:
    regions = EvaluationSet(RegionStore(Path(fit.context.store_folder)), fit.fold.val, fit.context.protocol)
    model, device = get_base(fit.state.adapted), fit.state.device
    masks, dice = [], []
    for bf16 in (False, True):
        set_precision(bf16)
        masks.append([mask for _, found in predict_masks(model, regions, device) for mask in found])
        dice.append(evaluate(model, regions, device).dice)
    overlaps = [(one & other).sum() / max(1, (one | other).sum()) for one, other in zip(*masks, strict=True)]
    assert len(overlaps) > 2 and np.mean(overlaps) > MASK_IOU
    assert dice[1] == pytest.approx(dice[0], abs=DICE_BOUND)

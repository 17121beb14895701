"""Training on a GPU: batches that are sent ahead, the optimizer in one kernel, and a resume that changes nothing."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from trainables.context import TrialContext
from trainables.training.engine import send_ahead
from trainables.training.fine_tune import FineTune

Start = Callable[..., FineTune]
LEAST = 1e-6  # where the model is sure of an object, the loss of objectness is rounding


def test_batches_that_are_sent_ahead_are_those_of_the_loader(
    context: TrialContext, device: torch.device, start: Start
) -> None:
    fit = start(context, device)
    expected = list(fit.loader.load(0, context.train))
    sent = list(send_ahead(fit.loader.load(0, context.train), device))
    assert len(sent) == len(expected) == 2
    for one, other in zip(sent, expected, strict=True):
        assert one.images.device.type == device.type
        assert torch.equal(one.images.cpu(), other.images) and torch.equal(one.targets.cpu(), other.targets)


def test_a_resumed_fine_tune_goes_on_as_the_whole_one(
    context: TrialContext, device: torch.device, start: Start, tmp_path: Path
) -> None:
    """On a CPU bit for bit, which other tests hold; a GPU's sums have no fixed order."""
    values = {"adapter__dropout": 0.2, "optim__ema_decay": 0.5}
    whole = start(context, device, **values)
    whole.train_epoch(0)
    whole.save(tmp_path)
    expected = whole.train_epoch(1)
    resumed = start(context, device, **values)
    resumed.load(tmp_path)
    found = resumed.train_epoch(1)
    assert found.losses == pytest.approx(expected.losses, rel=1e-2, abs=LEAST) and found.lr == expected.lr
    assert resumed.state.step == whole.state.step == 4
    theirs = dict(whole.state.adapted.named_parameters())
    for name, value in resumed.state.adapted.named_parameters():
        # AdamW's steps are about as long as the learning rate: two of them, were they to differ at all.
        torch.testing.assert_close(value, theirs[name], rtol=1e-2, atol=1e-3)
    if device.type == "cuda":
        assert all(group["fused"] for group in resumed.state.optimizer.param_groups)
        assert found.peak_memory_mb > 10


def test_a_fine_tune_goes_on_on_the_cpu(
    context: TrialContext, device: torch.device, start: Start, tmp_path: Path
) -> None:
    begun = start(context, device)
    begun.train_epoch(0)
    begun.save(tmp_path)
    resumed = start(context, torch.device("cpu"))
    resumed.load(tmp_path)
    assert resumed.train_epoch(1).losses == pytest.approx(begun.train_epoch(1).losses, rel=0.05, abs=LEAST)

"""What is exported scores on a GPU what the trial scored, within the tolerance of the export."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from search.stages.exporter import TOLERANCE, TOLERANCE_BF16
from trainables.context import TrialContext
from trainables.evaluation.candidates import score_candidate
from trainables.export.merged import score_merged, write_merged
from trainables.training.fine_tune import FineTune


def test_stock_sam2_scores_the_merged_weights_alike(
    context: TrialContext, device: torch.device, start: Callable[..., FineTune], small_root: Path, tmp_path: Path
) -> None:
    context = replace(context, max_epochs=1)
    fit = start(context, device)
    fit.train_epoch(0)
    checkpoint, out = tmp_path / "checkpoint", tmp_path / "export"
    checkpoint.mkdir(), out.mkdir()
    fit.save(checkpoint)
    write_merged(context, checkpoint, out, scale=1.0)
    own, stock = score_candidate(context, checkpoint, context.val), score_merged(context, out, small_root)
    assert own.dice > 0.2
    assert stock.dice == pytest.approx(own.dice, abs=TOLERANCE if device.type == "cpu" else TOLERANCE_BF16)

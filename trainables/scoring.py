"""Scores one candidate (zero-shot, or a trial's checkpoint) from what lies on disk, wherever it is called."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from peft import PeftModel
from sam2.modeling.sam2_base import SAM2Base

from trainables.checkpoint import load_model
from trainables.context import ADAPTER_FOLDER, RECIPE_FILE, TrialContext
from trainables.data.store import RegionStore
from trainables.device import pick_device
from trainables.evaluate import EvaluationSet, Scores, evaluate
from trainables.model.adapters import attach_adapters, get_base, load_adapter_weights
from trainables.recipe import Recipe


def load_adapted(context: TrialContext, checkpoint: Path) -> PeftModel:
    """Rebuilds a trial's adapted model from its checkpoint, on the CPU.

    Args:
        context: What the trials of the search share.
        checkpoint: A folder that :meth:`SAM2Trainable.save_checkpoint` wrote.
    """
    recipe = Recipe.from_flat(json.loads((checkpoint / RECIPE_FILE).read_text()))
    bare = load_model(context.model, context.checkpoint)
    adapted = attach_adapters(bare, recipe.adapter, context.seed)
    load_adapter_weights(adapted, checkpoint / ADAPTER_FOLDER)
    return adapted


def load_candidate(context: TrialContext, checkpoint: Path | None) -> SAM2Base:
    """Returns the zero-shot model, or a trial's, ready for the forward pass, on this process's device."""
    if checkpoint is None:
        return load_model(context.model, context.checkpoint).to(pick_device())
    return get_base(load_adapted(context, checkpoint)).to(pick_device())


def score_candidate(context: TrialContext, checkpoint: Path | None, names: Sequence[str]) -> Scores:
    """Scores a candidate on regions under the search's protocol.

    Args:
        context: What the trials of the search share.
        checkpoint: A trial's checkpoint; None for zero-shot.
        names: Which regions.
    """
    context.use_threads()
    store = RegionStore.open(Path(context.store_folder))
    regions = EvaluationSet(store, names, context.protocol)
    model = load_candidate(context, checkpoint)
    with torch.inference_mode():
        return evaluate(model, regions, pick_device())

"""The export of what no stock checkpoint can hold: adapter and recipe, loaded onto the base by this project."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from sam2.modeling.sam2_base import SAM2Base

from trainables.context import ADAPTER_FOLDER, RECIPE_FILE, TrialContext
from trainables.data.store import RegionStore
from trainables.device import pick_device
from trainables.errors import CheckpointError, Finding
from trainables.evaluate import evaluate
from trainables.evaluation_set import EvaluationSet
from trainables.merged import CONFIG_FILE, write_config
from trainables.model.adapters import name_unmergeable
from trainables.model.build import MODELS
from trainables.model.class_prompts import CLASS_PROMPTS_FILE
from trainables.recipe import Recipe
from trainables.scores import Scores
from trainables.scoring import load_adapted, load_trained


def find_unmergeable(context: TrialContext, checkpoint: Path) -> str:
    """Names what of a trial's checkpoint no stock model can hold; empty where all of it can be merged."""
    return name_unmergeable(load_adapted(context, checkpoint))


def write_unmerged(context: TrialContext, checkpoint: Path, folder: Path) -> None:
    """Writes ``adapter/``, ``recipe.json``, the config's name, and class prompts if any, but no ``sam2.pt``.

    They are the trial's own, at scale 1: what cannot be merged cannot be scaled.

    Args:
        context: What the trials of the search share.
        checkpoint: The trial's checkpoint.
        folder: An existing folder.
    """
    shutil.copytree(checkpoint / ADAPTER_FOLDER, folder / ADAPTER_FOLDER)
    for name in (RECIPE_FILE, CLASS_PROMPTS_FILE):
        if (checkpoint / name).is_file():
            shutil.copy(checkpoint / name, folder / name)
    write_config(MODELS[context.model], folder)


def load_unmerged(
    folder: str | Path, checkpoint: str | None = None, pathology_weights: Mapping[str, str] | None = None
) -> SAM2Base:
    """Builds the model of an export, on the CPU, in evaluation mode; ``SAM2ImagePredictor`` takes it.

    Args:
        folder: What :func:`write_unmerged` wrote.
        checkpoint: The base's weights, the same ones that the search began with: a file or a hub id; None for
            nano's own.
        pathology_weights: Name of a pathology encoder -> its weights' file or hub id; none for random ones.

    Raises:
        CheckpointError: If the folder is no such export, or the base's or encoder's weights are missing or others.
    """
    folder = Path(folder).expanduser()
    try:
        config = (folder / CONFIG_FILE).read_text().strip()
        recipe = Recipe.from_flat(json.loads((folder / RECIPE_FILE).read_text()))
        name = next(spec.name for spec in MODELS.values() if spec.config == config)
        return load_trained(folder, name, checkpoint, recipe, pathology_weights or {}).eval()
    except (OSError, ValueError, StopIteration) as error:
        what = f"is no export with an adapter ({error or type(error).__name__})"
        fix = "pass the folder that search.export made, and the weights that the search began with"
        raise CheckpointError([Finding(str(folder), what, fix)]) from error


def score_unmerged(context: TrialContext, folder: Path) -> Scores:
    """Scores an export on validation by the project's evaluator, from its files and the weights it needs."""
    context.use_threads()
    store = RegionStore.open(Path(context.store_folder))
    regions = EvaluationSet(store, context.val, context.protocol, context.train)
    with torch.inference_mode():
        model = load_unmerged(folder, context.checkpoint, context.pathology_weights)
        return evaluate(model.to(pick_device()), regions, pick_device())

"""The export of a trial: its adapter as PEFT writes it, and a merged checkpoint that stock SAM2 loads."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from sam2.build_sam import build_sam2
from sam2.modeling.sam2_base import SAM2Base

from trainables.context import ADAPTER_FOLDER, TrialContext
from trainables.data.bcss import read_regions
from trainables.data.images import read_image
from trainables.data.store import RegionStore
from trainables.device import pick_device
from trainables.evaluate import EvaluationSet, Scores
from trainables.model.adapters import merge_adapters, save_adapters
from trainables.model.build import ASSETS, MODELS, config_path
from trainables.scoring import load_adapted
from trainables.stock_predictor import score_with_predictor

MERGED_FILE = "sam2.pt"
CONFIG_FILE = "config.txt"


def write_merged(context: TrialContext, checkpoint: Path, folder: Path) -> None:
    """Writes ``adapter/``, ``sam2.pt`` (one key, ``model``, as published checkpoints have) and the config.

    Args:
        context: What the trials of the search share.
        checkpoint: The trial's checkpoint.
        folder: An existing folder.
    """
    adapted = load_adapted(context, checkpoint)
    save_adapters(adapted, folder / ADAPTER_FOLDER)
    merged = merge_adapters(adapted)
    torch.save({"model": merged.state_dict()}, folder / MERGED_FILE)
    spec = MODELS[context.model]
    (folder / CONFIG_FILE).write_text(spec.config + "\n")
    if spec.is_demo:
        shutil.copy(ASSETS / spec.config, folder / spec.config)


def load_merged(context: TrialContext, folder: Path) -> SAM2Base:
    """Builds a merged checkpoint by ``sam2.build_sam.build_sam2``, which loads strictly."""
    spec = MODELS[context.model]
    with config_path(spec):
        return build_sam2(spec.config, str(folder / MERGED_FILE), device=str(pick_device()))


def score_merged(context: TrialContext, folder: Path, data_root: Path) -> Scores:
    """Scores a merged checkpoint on validation through stock ``SAM2ImagePredictor``, from the image files."""
    context.use_threads()
    store = RegionStore.open(Path(context.store_folder))
    files = {region.name: region.image for region in read_regions(data_root).regions}
    regions = EvaluationSet(store, context.val, context.protocol)
    return score_with_predictor(
        load_merged(context, folder), regions, lambda name: read_image(files[name]), pick_device()
    )

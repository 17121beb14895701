"""Exports learned class prompts: tokens beside the merged weights, and what a prediction with them needs."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sam2.modeling.sam2_base import SAM2Base

from trainables.context import ADAPTER_FOLDER, TrialContext
from trainables.data.store import RegionStore
from trainables.errors import CheckpointError, Finding
from trainables.export.merged import MERGED_FILE
from trainables.export.unmerged import load_unmerged
from trainables.files.json_reader import read_json
from trainables.model.build import MODELS
from trainables.model.class_prompts import (
    CLASS_PROMPTS_FILE,
    attach_class_prompts,
    load_class_prompts,
    save_class_prompts,
)
from trainables.model.device import pick_device
from trainables.model.weights import load_with_notes
from trainables.protocol.background import BACKGROUND, pick_background_id
from trainables.protocol.spec import find_tiles

CLASS_EXPORT_FILE = "class_prompts.json"
# Sides of a tile: smaller tiles would take days for a slide, larger ones would fill the memory.
MIN_TILE_PX, MAX_TILE_PX = 16, 20_000
_EXPORT_AGAIN = "export the search again"


@dataclass(frozen=True)
class ClassExport:
    """``class_prompts.json``: the meaning of the tokens in ``class_prompts.safetensors``.

    Attributes:
        model: Name of the SAM2 model that they prompt.
        names: Id -> name of each token's pixels, in the order of the tokens: the data set's classes, then background.
        tile_px: Height and width of the tiles into which images are cut, each in ``MIN_TILE_PX`` .. ``MAX_TILE_PX``:
            the medians of the training regions, which filled the model's input, so that tissue keeps that scale.
        um_per_px: Micrometres a pixel at which these are meant; 0 where a training region's scale is unknown.
    """

    model: str
    names: Mapping[int, str]
    tile_px: tuple[int, int]
    um_per_px: float = 0.0

    def write(self, folder: Path) -> None:
        """Writes ``class_prompts.json``."""
        content = {
            "model": self.model,
            "names": [[class_id, name] for class_id, name in self.names.items()],
            "tile_px": list(self.tile_px),
            "um_per_px": self.um_per_px,
        }
        (folder / CLASS_EXPORT_FILE).write_text(json.dumps(content, indent=1) + "\n")

    @staticmethod
    def read(folder: Path) -> ClassExport:
        """Returns the content of ``class_prompts.json``.

        Raises:
            CheckpointError: If the folder is no export, one without class prompts, or a damaged one.
        """
        path = folder / CLASS_EXPORT_FILE
        if not os.path.isfile(path):  # not the method: it raises where a name is too long
            raise CheckpointError([_explain_missing(folder)])
        saved = read_json(path, _Saved, _EXPORT_AGAIN, CheckpointError, "ignore")
        return ClassExport(saved.model, dict(saved.names), saved.tile_px, saved.um_per_px)

    def find_tile(self, um_per_px: float) -> tuple[int, int]:
        """Returns a tile's height and width in an image of a scale; 0 means an unknown one, taken for training's.

        Raises:
            ValueError: If a side leaves its limits, as an image's scale is far from training's.
        """
        zoom = self.um_per_px / um_per_px if self.um_per_px and um_per_px else 1.0
        height, width = (round(side * zoom) for side in self.tile_px)
        if not all(MIN_TILE_PX <= side <= MAX_TILE_PX for side in (height, width)):
            raise ValueError(f"{um_per_px:g} um a pixel is too far from training's {self.um_per_px:g}")
        return height, width


@dataclass(frozen=True)
class _Saved:
    """``class_prompts.json`` as it is written: JSON has no numbers as keys."""

    model: str
    names: list[tuple[int, str]]
    tile_px: tuple[int, int]
    um_per_px: float = 0.0

    def __post_init__(self) -> None:
        if self.model not in MODELS or not {class_id for class_id, _ in self.names} <= set(range(256)):
            raise ValueError("it names no model or ids that there can be")
        if not all(MIN_TILE_PX <= side <= MAX_TILE_PX for side in self.tile_px):
            raise ValueError(f"tile_px must lie in {MIN_TILE_PX}..{MAX_TILE_PX}, but got {self.tile_px}")


def _explain_missing(folder: Path) -> Finding:
    if not os.path.isdir(folder):
        return Finding(str(folder), "no such folder", "pass the folder that search.export made")
    if os.path.isfile(folder / MERGED_FILE):
        what = "this export needs prompts: its search learned no class prompts"
        return Finding(str(folder), what, "use it through SAM2ImagePredictor, or search with spaces/classprompts.yaml")
    return Finding(str(folder), "holds no export", "pass the folder that search.export made")


def write_class_export(context: TrialContext, checkpoint: Path, folder: Path) -> None:
    """Writes ``class_prompts.safetensors`` and ``class_prompts.json`` next to the files of ``write_merged``."""
    store = RegionStore(context.store_folder)
    save_class_prompts(load_class_prompts(checkpoint), folder)
    seen = [(store.size(i), store.scales[i].um_per_px) for i in map(store.index, context.train)]
    sizes = np.array([find_tiles(size, um_per_px, context.protocol)[0].window.size for size, um_per_px in seen])
    scales = np.array([um_per_px for _, um_per_px in seen])
    um = float(np.median(scales)) if scales.all() else 0.0
    if um:
        sizes = sizes * scales[:, None] / um
    height, width = np.clip(np.median(sizes, axis=0).round().astype(int), MIN_TILE_PX, MAX_TILE_PX).tolist()
    names = {**store.classes, pick_background_id(store.classes, store.ignore_ids): BACKGROUND}
    ClassExport(context.model, names, (height, width), um).write(folder)


def load_class_export(folder: Path, checkpoint: str | None = None) -> tuple[ClassExport, SAM2Base]:
    """Returns an export as one model on this process's device, in evaluation mode.

    The base's weights (file or hub id; None for nano's own) are needed if the trained part could not be merged with
    them.

    Raises:
        CheckpointError: If the folder is no export, one without class prompts, or a damaged one.
    """
    export = ClassExport.read(folder)
    path = folder / MERGED_FILE
    if not path.exists() and (folder / ADAPTER_FOLDER).is_dir():
        model = load_unmerged(folder, checkpoint)
    else:
        model = load_with_notes(MODELS[export.model], path)[0]
    prompts = load_class_prompts(folder)
    if len(prompts.tokens) != len(export.names):
        what = f"has tokens for {len(prompts.tokens)} names, but {CLASS_EXPORT_FILE} lists {len(export.names)}"
        raise CheckpointError.at(folder, what, _EXPORT_AGAIN)
    if (n_channels := prompts.tokens.shape[2]) != (width := model.sam_prompt_encoder.embed_dim):
        what = f"has tokens of {n_channels} channels, but {export.model} takes {width}"
        raise CheckpointError.at(folder / CLASS_PROMPTS_FILE, what, _EXPORT_AGAIN)
    attach_class_prompts(model, prompts)
    return export, model.to(pick_device()).eval()

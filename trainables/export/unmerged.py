"""Exports what no stock checkpoint can hold: adapter and recipe, which this project loads onto the base."""

import dataclasses
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sam2.modeling.sam2_base import SAM2Base

from trainables.adapters.adapted_model import ADAPTER_WEIGHTS_FILE, get_base, name_unmergeable
from trainables.context import ADAPTER_FOLDER, RECIPE_FILE, TrialContext
from trainables.errors import CheckpointError
from trainables.evaluation.candidates import adapt_model, load_adapted, read_recipe
from trainables.files.json_reader import read_json
from trainables.files.weight_file import COPY_FIX
from trainables.model.build import MODELS
from trainables.model.class_prompts import CLASS_PROMPTS_FILE
from trainables.model.pathology_encoder import compute_fingerprint
from trainables.model.weights import load_model

BASE_FILE = "base.json"


@dataclass(frozen=True)
class _Base:
    """``base.json``: the model that the adapter changes, and the fingerprint of its weights."""

    model: str
    fingerprint: str

    def __post_init__(self) -> None:
        if self.model not in MODELS:
            raise ValueError(f"there is no model {self.model!r}")


def find_unmergeable(context: TrialContext, checkpoint: Path) -> str:
    """Returns the part of a trial's checkpoint that no stock model can hold; empty if all of it can be merged."""
    return name_unmergeable(load_adapted(context, checkpoint))


def write_unmerged(context: TrialContext, checkpoint: Path, folder: Path) -> None:
    """Writes ``adapter/``, ``recipe.json``, ``base.json`` and any class prompts, but no ``sam2.pt``.

    They are the trial's own, at scale 1, because only what can be merged can be scaled.
    """
    # Contents alone: files of a checkpoint may be their owner's alone.
    shutil.copytree(checkpoint / ADAPTER_FOLDER, folder / ADAPTER_FOLDER, copy_function=shutil.copyfile)
    for name in (RECIPE_FILE, CLASS_PROMPTS_FILE):
        if (checkpoint / name).is_file():
            shutil.copyfile(checkpoint / name, folder / name)
    fingerprint = compute_fingerprint(load_model(context.model, context.checkpoint))
    (folder / BASE_FILE).write_text(json.dumps(dataclasses.asdict(_Base(context.model, fingerprint))) + "\n")


def load_unmerged(
    folder: str | Path, checkpoint: str | None = None, pathology_weights: Mapping[str, str] | None = None
) -> SAM2Base:
    """Returns the model of an export, on the CPU, in evaluation mode; ``SAM2ImagePredictor`` takes it.

    ``checkpoint`` is the file or hub id of the weights with which the search began, or None for nano's own;
    ``pathology_weights`` has those of each pathology encoder by its name, or random ones if it is None.

    Raises:
        CheckpointError: If the folder is damaged or no such export, or the weights of the base or of the encoder are
            missing or not those of the search.
    """
    folder = Path(folder).expanduser()
    for name in (BASE_FILE, RECIPE_FILE, f"{ADAPTER_FOLDER}/{ADAPTER_WEIGHTS_FILE}"):
        if not (folder / name).is_file():
            what, fix = f"is no export with an adapter: it holds no {name}", "pass the folder that search.export made"
            raise CheckpointError.at(folder, what, fix)
    recipe, base = read_recipe(folder), read_json(folder / BASE_FILE, _Base, COPY_FIX, CheckpointError, "ignore")
    bare = load_model(base.model, checkpoint)
    if (found := compute_fingerprint(bare)) != base.fingerprint:
        what = f"was trained on other weights of {base.model}: {base.fingerprint}, but got {found}"
        fix = "pass the weights that the search began with as checkpoint"
        raise CheckpointError.at(folder, what, fix)
    return get_base(adapt_model(bare, folder, recipe, pathology_weights or {})).eval()

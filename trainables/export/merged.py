"""Exports a trial: its adapter as PEFT writes it, and a merged checkpoint that stock SAM2 loads."""

import copy
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, PeftModel, get_peft_model
from peft.utils import get_peft_model_state_dict
from sam2.build_sam import build_sam2
from sam2.modeling.sam2_base import SAM2Base
from torch import Tensor

from trainables.adapters.adapted_model import (
    ADAPTER_CONFIG_FILE,
    ADAPTER_WEIGHTS_FILE,
    PEFT_PREFIX,
    merge_adapters,
    name_unmergeable,
    save_adapters,
)
from trainables.adapters.interpolation import interpolate_adapter, interpolate_weights, is_pissa
from trainables.adapters.scales import check_scale
from trainables.adapters.soup import SavedAdapter, join_adapters
from trainables.context import ADAPTER_FOLDER, TrialContext
from trainables.errors import TrainablesError
from trainables.evaluation.candidates import load_adapted_with_base, load_merged_states
from trainables.evaluation.soup_folder import is_soup, list_members
from trainables.evaluation.stock_predictor import use_predictor
from trainables.export.library_scores import score_by_library
from trainables.files.weight_file import load_saved, save_weights
from trainables.model.build import ASSETS, MODELS, ModelSpec, build_architecture, config_path
from trainables.model.class_prompts import detach_class_prompts
from trainables.model.device import pick_device
from trainables.model.forward import MaskOutputs, decode_prompts, encode_images
from trainables.protocol.prompts import BOX_BOTTOM_RIGHT, BOX_TOP_LEFT
from trainables.protocol.scores import Scores

MERGED_FILE = "sam2.pt"
CONFIG_FILE = "config.txt"
# Answers of adapter and merged weights may differ by so much of the greatest, on an image of so many pixels a side.
_ROUNDING, _PROBE_SIDE = 1e-2, 256


def write_merged(context: TrialContext, checkpoint: Path, folder: Path, scale: float = 1.0) -> None:
    """Writes ``adapter/``, ``sam2.pt`` (one key, ``model``, as published checkpoints have) and the config.

    The checkpoint is a trial's, or the folder of a soup. The scale is the factor of the change of the weights. At 0
    ``sam2.pt`` holds the zero-shot weights bit for bit; at 1 a trial's adapter is its own. The folder exists. There is
    no ``adapter/`` at scale 0 if it cannot be merged, nor of a soup whose members' adapters cannot be joined.

    Raises:
        InputError: If the scale is out of its limits, or the checkpoint or the base cannot be read.
        TrainablesError: If the adapter cannot be merged, or cannot be written at this scale, or PEFT does not make the
            merged model of it.
    """
    check_scale(scale)
    spec = MODELS[context.model]
    if is_soup(checkpoint):
        _write_soup(context, spec, checkpoint, folder, scale)
        return
    base_state, adapted = load_adapted_with_base(context, checkpoint)
    if scale == 0 and name_unmergeable(adapted):
        write_stock(spec, base_state, folder)
        return
    save_adapters(adapted, folder / ADAPTER_FOLDER)
    has_tuner = adapted.tuner is not None
    model = merge_adapters(adapted)
    detach_class_prompts(model)  # stock SAM2 cannot hold them; see trainables.export.class_export
    tuned_state = model.state_dict()
    if scale != 1:
        config = PeftConfig.from_pretrained(str(folder / ADAPTER_FOLDER)) if has_tuner else None
        _rescale_adapter(context, folder / ADAPTER_FOLDER, config, base_state, tuned_state, scale)
    merged_state = interpolate_weights(base_state, tuned_state, scale)
    write_stock(spec, merged_state, folder)
    if has_tuner:
        _check_adapter(spec, folder / ADAPTER_FOLDER, base_state, merged_state)


def _write_soup(context: TrialContext, spec: ModelSpec, checkpoint: Path, folder: Path, scale: float) -> None:
    """Writes a soup as :func:`write_merged` writes a trial; ``adapter/`` only if its members' can be joined."""
    base_state, tuned_state = load_merged_states(context, checkpoint)
    merged_state = interpolate_weights(base_state, tuned_state, scale)
    write_stock(spec, merged_state, folder)
    adapters = [_read_adapter(member / ADAPTER_FOLDER) for member in list_members(checkpoint)]
    joined = join_adapters(adapters, merged_state, scale)
    if joined is None:
        return
    out, (state, config) = folder / ADAPTER_FOLDER, joined
    out.mkdir()
    save_weights(state, out / ADAPTER_WEIGHTS_FILE)
    if config is None:  # what each member trained in full has the same names
        shutil.copyfile(list_members(checkpoint)[0] / ADAPTER_FOLDER / ADAPTER_CONFIG_FILE, out / ADAPTER_CONFIG_FILE)
    else:
        config.save_pretrained(str(out))
        _check_adapter(spec, out, base_state, merged_state)


def _read_adapter(folder: Path) -> SavedAdapter:
    """Returns what a checkpoint's adapter folder holds; the config is None where PEFT has no part in it."""
    state = load_saved(folder / ADAPTER_WEIGHTS_FILE)
    is_peft = any(name.startswith(PEFT_PREFIX) for name in state)
    return state, PeftConfig.from_pretrained(str(folder)) if is_peft else None


def write_stock(spec: ModelSpec, state: Mapping[str, Tensor], folder: Path) -> None:
    """Writes the weights, the name of SAM2's config, and a copy of nano's, which sam2 does not contain."""
    torch.save({"model": dict(state)}, folder / MERGED_FILE)
    (folder / CONFIG_FILE).write_text(spec.config + "\n")
    if spec.is_demo:
        shutil.copyfile(ASSETS / spec.config, folder / spec.config)


def _rescale_adapter(
    context: TrialContext,
    folder: Path,
    config: PeftConfig | None,
    base_state: Mapping[str, Tensor],
    tuned_state: Mapping[str, Tensor],
    scale: float,
) -> None:
    """Overwrites an adapter's folder with the adapter at a scale."""
    initial_state = None
    if config is not None and is_pissa(config):
        bare = _build_model(MODELS[context.model], base_state)
        initial_state = get_peft_model_state_dict(get_peft_model(bare, copy.deepcopy(config)))
    weights = load_saved(folder / ADAPTER_WEIGHTS_FILE)
    state, config = interpolate_adapter(weights, config, base_state, tuned_state, scale, initial_state)
    save_weights(state, folder / ADAPTER_WEIGHTS_FILE)
    if config is not None:
        config.save_pretrained(str(folder))


def _build_model(spec: ModelSpec, state: Mapping[str, Tensor], image_size: int | None = None) -> SAM2Base:
    model = build_architecture(spec, image_size)
    model.load_state_dict(dict(state))
    return model


def _check_adapter(
    spec: ModelSpec, folder: Path, base_state: Mapping[str, Tensor], merged_state: Mapping[str, Tensor]
) -> None:
    """Loads an exported adapter onto a fresh base, as its users will: by PEFT alone.

    Raises:
        TrainablesError: If PEFT cannot load it, or the adapted model does not answer as the merged one does.
    """
    bare: Any = _build_model(spec, base_state, _PROBE_SIDE)  # PEFT asks for one of transformers' models, and takes any
    try:
        adapted = PeftModel.from_pretrained(bare, str(folder)).get_base_model()
    except (RuntimeError, ValueError, KeyError) as error:
        raise TrainablesError(f"PEFT cannot load the exported adapter: {error}") from error
    assert isinstance(adapted, SAM2Base)
    wanted = _answer_probe(_build_model(spec, merged_state, _PROBE_SIDE))
    for name, found, merged in zip(wanted._fields, _answer_probe(adapted), wanted, strict=True):
        off = float((found - merged).abs().max() / merged.abs().max().clamp(min=1))
        if not off <= _ROUNDING:
            raise TrainablesError(
                f"PEFT makes another model of the exported adapter: its {name} differ by {off:.2g} of the greatest"
            )


@torch.no_grad()
def _answer_probe(model: SAM2Base) -> MaskOutputs:
    """Returns what a model says of a box in an image of noise."""
    image = torch.rand(1, 3, _PROBE_SIDE, _PROBE_SIDE, generator=torch.Generator().manual_seed(0))
    box = torch.tensor([[[0.2, 0.3], [0.7, 0.8]]]) * _PROBE_SIDE
    labels = torch.tensor([[BOX_TOP_LEFT, BOX_BOTTOM_RIGHT]], dtype=torch.int32)
    return decode_prompts(model.eval(), encode_images(model, image), torch.tensor([0]), box, labels)


def load_merged(context: TrialContext, folder: Path) -> SAM2Base:
    """Returns a merged checkpoint as ``sam2.build_sam.build_sam2`` builds it, which loads strictly."""
    spec = MODELS[context.model]
    with config_path(spec):
        return build_sam2(spec.config, str(folder / MERGED_FILE), device=str(pick_device()))


def score_merged(context: TrialContext, folder: Path, data_root: Path) -> Scores:
    """Scores a merged checkpoint on validation through stock ``SAM2ImagePredictor``, from the image files."""
    return score_by_library(context, use_predictor(load_merged(context, folder), pick_device()), data_root)

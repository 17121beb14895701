"""A SAM2 model with adapters of any kind: attached, switched off, merged, saved and loaded."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from sam2.modeling.sam2_base import SAM2Base
from torch import Tensor, nn

from trainables.adapters.bottleneck import WithBottleneck, attach_bottlenecks, list_bottleneck_weights
from trainables.adapters.original_weights import OriginalWeights
from trainables.adapters.peft_config import PEFT_KINDS, build_peft_config, describe_config
from trainables.adapters.placement import list_bottleneck_sites, list_layers, list_trained_parts
from trainables.errors import TrainablesError
from trainables.files.weight_file import check_description, load_saved, refuse_other, save_weights
from trainables.model.fusion import PathologyFusion, find_fusion, read_fusion, save_fusion
from trainables.recipe import AdapterRecipe

if TYPE_CHECKING:
    from peft import PeftModel


ADAPTER_WEIGHTS_FILE = "adapter_model.safetensors"
ADAPTER_CONFIG_FILE = "adapter_config.json"
PEFT_PREFIX = "base_model.model."  # what PEFT puts in front of the model's own names


class AdaptedModel(nn.Module):
    """A SAM2 model with adapters, and the original weights by which they can be switched off.

    Attributes:
        inner: The model; inside PEFT's wrapper if the recipe's kind is one of PEFT's.
        recipe: The adapters.
        parts: Names of the modules that are trained in full, in place.
        trained: Those modules' original weights.
        altered: Original weights of frozen layers that attaching changed (PiSSA splits them).
    """

    def __init__(
        self,
        inner: PeftModel | SAM2Base,
        recipe: AdapterRecipe,
        parts: list[str],
        trained: OriginalWeights,
        altered: OriginalWeights,
    ) -> None:
        super().__init__()
        self.inner, self.recipe, self.parts = inner, recipe, parts
        self.trained, self.altered = trained, altered

    @property
    def tuner(self) -> PeftModel | None:
        """PEFT's wrapper, or None."""
        return None if isinstance(self.inner, SAM2Base) else self.inner


def attach_adapters(model: SAM2Base, recipe: AdapterRecipe, seed: int) -> AdaptedModel:
    """Freezes the model in place, adds adapters, and unfreezes the parts that the recipe trains in full.

    At first the adapted model equals the base exactly, as each update starts at zero; PiSSA, which starts from
    the weights' greatest singular values, equals it within rounding. A frozen copy is kept of the parts that are
    trained in full: with ``train_encoder`` the whole image encoder (0.9 GB for SAM2.1 large). The seed is that of the
    adapters' first weights; PyTorch's global generator is left as it was.
    """
    parts = list_trained_parts(model, recipe)
    layers = list_layers(model, recipe) if recipe.kind in PEFT_KINDS else []
    trained = OriginalWeights(model, parts)
    altered = OriginalWeights(model, layers if recipe.kind == "pissa" else [])
    model.requires_grad_(False)
    inner: PeftModel | SAM2Base = model
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reseed the GPUs as well
        if layers:
            from peft import PeftModel, get_peft_model

            wrapped = get_peft_model(model, build_peft_config(recipe, layers))
            assert isinstance(wrapped, PeftModel)
            inner = wrapped
        elif recipe.kind == "bottleneck":
            attach_bottlenecks(model, list_bottleneck_sites(model, recipe), recipe.rank, recipe.dropout)
    for value in trained.current().values():
        value.requires_grad_(True)
    return AdaptedModel(inner, recipe, parts, trained, altered)


def get_base(adapted: AdaptedModel) -> SAM2Base:
    """Returns the SAM2 model with its adapters, without PEFT's wrapper: the forward pass takes it."""
    base = adapted.inner if adapted.tuner is None else adapted.tuner.get_base_model()
    assert isinstance(base, SAM2Base)
    return base


@contextmanager
def adapters_off(adapted: AdaptedModel) -> Iterator[SAM2Base]:
    """Makes the model the zero-shot one inside the block, bit for bit, parts trained in full included."""
    base = get_base(adapted)
    tuner_off = nullcontext() if adapted.tuner is None else adapted.tuner.disable_adapter()
    switched = [module for module in base.modules() if isinstance(module, (WithBottleneck, PathologyFusion))]
    before = [module.enabled for module in switched]
    with tuner_off, adapted.trained.put_back(), adapted.altered.put_back():
        try:
            for module in switched:
                module.enabled = False
            yield base
        finally:
            for module, enabled in zip(switched, before, strict=True):
                module.enabled = enabled


def name_unmergeable(adapted: AdaptedModel) -> str:
    """Names what weights of a stock model cannot hold, bottleneck adapters or a fusion; empty if nothing."""
    base = get_base(adapted)
    parts = ["adapters of kind bottleneck"] if list_bottleneck_weights(base) else []
    if (fusion := find_fusion(base)) is not None:
        parts.append(f"a fusion with the encoder {fusion.encoder.name}")
    return " and ".join(parts)


def merge_adapters(adapted: AdaptedModel) -> SAM2Base:
    """Adds the updates to the weights; returns a stock model with stock keys. Do not use the adapted one afterwards.

    Raises:
        TrainablesError: If what was trained cannot be merged; see :func:`name_unmergeable`.
    """
    if unmergeable := name_unmergeable(adapted):
        raise TrainablesError(
            f"{unmergeable} cannot be merged into a stock SAM2 checkpoint: "
            "load the model by trainables.export.unmerged.load_unmerged"
        )
    adapted.eval()  # in training mode LoHa and LoKr would merge what their dropout left
    merged = get_base(adapted) if adapted.tuner is None else adapted.tuner.merge_and_unload()
    assert isinstance(merged, SAM2Base)
    return merged


def save_adapters(adapted: AdaptedModel, folder: Path) -> None:
    """Writes ``adapter_config.json`` and ``adapter_model.safetensors``.

    ``PeftModel.from_pretrained`` loads PEFT's kinds onto a stock model, parts trained in full as
    ``modules_to_save``. Weights of the other kinds have the names that they have in the model: stock SAM2's own,
    but for bottleneck adapters. A fusion is in two more files; see :func:`trainables.model.fusion.save_fusion`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if adapted.tuner is None:
        (folder / ADAPTER_CONFIG_FILE).write_text(json.dumps(_describe(adapted), indent=2))
    else:
        config = copy.copy(adapted.tuner.active_peft_config)
        config.modules_to_save = adapted.parts or None
        config.inference_mode = True
        config.save_pretrained(str(folder))
    state = {name: value.detach().contiguous() for name, value in _list_saved_weights(adapted).items()}
    save_weights(state, folder / ADAPTER_WEIGHTS_FILE)
    save_fusion(get_base(adapted), folder)


def load_adapter_weights(adapted: AdaptedModel, folder: Path) -> None:
    """Loads a saved adapter into a model that is adapted by the same recipe. Nothing in a file can run code.

    Raises:
        CheckpointError: If ``adapter_model.safetensors`` or ``adapter_config.json`` is missing or damaged; if the
            saved adapter differs in the names or shapes of its weights, in kind, rank or alpha; or if it was trained
            beside a pathology encoder with other weights. The model is left as it was.
    """
    path, config_path = folder / ADAPTER_WEIGHTS_FILE, folder / ADAPTER_CONFIG_FILE
    state, expected = load_saved(path), _list_saved_weights(adapted)
    if odd := sorted(set(state) ^ set(expected)):
        raise refuse_other(path, f"{len(odd)} weights differ in name (first: {odd[0]})")
    check_description(config_path, _describe(adapted))
    if odd := sorted(name for name, value in expected.items() if state[name].shape != value.shape):
        raise refuse_other(path, f"{len(odd)} weights differ in shape (first: {odd[0]})")
    fused = read_fusion(get_base(adapted), folder)
    own = _list_own_weights(adapted)
    if adapted.tuner is not None:
        from peft.utils import set_peft_model_state_dict

        tuned = {name: value for name, value in state.items() if name not in own}
        set_peft_model_state_dict(adapted.tuner, tuned)
    with torch.no_grad():
        for parameter, value in [*((own[name], state[name]) for name in own), *fused]:
            parameter.copy_(value)


def count_parameters(adapted: AdaptedModel) -> tuple[int, int]:
    """Returns how many parameters are trained, and how many there are (adapters and frozen copies too)."""
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in adapted.parameters()]
    return sum(size for size, trained in sizes if trained), sum(size for size, _ in sizes)


def _list_own_weights(adapted: AdaptedModel) -> dict[str, nn.Parameter]:
    """Returns, by their saved names, the trained weights that are not PEFT's."""
    prefix = "" if adapted.tuner is None else PEFT_PREFIX
    own = {**adapted.trained.current(), **list_bottleneck_weights(get_base(adapted))}
    return {f"{prefix}{name}": value for name, value in own.items()}


def _list_saved_weights(adapted: AdaptedModel) -> dict[str, Tensor]:
    """Returns every trained weight by its saved name."""
    own: dict[str, Tensor] = {**_list_own_weights(adapted)}
    if adapted.tuner is None:
        return own
    from peft.utils import get_peft_model_state_dict

    return {**get_peft_model_state_dict(adapted.tuner), **own}


def _describe(adapted: AdaptedModel) -> dict[str, object]:
    """Returns the settings by which adapters differ whose weights have the same names."""
    if adapted.tuner is not None:
        return describe_config(adapted.tuner.active_peft_config)
    # Without a tuner there is no adapter of PEFT's kinds: only the parts that are trained in full count.
    if not list_bottleneck_weights(get_base(adapted)):
        return {"kind": "none", "parts": adapted.parts}
    return {"kind": "bottleneck", "rank": adapted.recipe.rank, "parts": adapted.parts}

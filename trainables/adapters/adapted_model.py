"""Puts adapters into a SAM2 model, takes them off, merges, saves and loads them; one interface for every kind."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file
from sam2.modeling.sam2_base import SAM2Base
from torch import Tensor, nn

from trainables.adapters.bottleneck import attach_bottlenecks, bottlenecks_off, list_bottleneck_weights
from trainables.adapters.original_weights import OriginalWeights
from trainables.adapters.peft_config import PEFT_KINDS, build_peft_config, describe_config
from trainables.adapters.placement import list_bottleneck_sites, list_layers, list_trained_parts
from trainables.errors import CheckpointError, TrainablesError
from trainables.files.json_reader import read_json
from trainables.files.weight_file import COPY_FIX, load_saved, refuse_other
from trainables.model.fusion import check_fusion, find_fusion, fusion_off, load_fusion_weights, save_fusion
from trainables.recipe import AdapterRecipe

if TYPE_CHECKING:
    from peft import PeftModel


WEIGHTS_FILE = "adapter_model.safetensors"
CONFIG_FILE = "adapter_config.json"
PEFT_PREFIX = "base_model.model."  # what PEFT puts in front of the model's own names


class AdaptedModel(nn.Module):
    """A SAM2 model with adapters inside, and what is needed to take them off again.

    Attributes:
        inner: The model; within PEFT's wrapper where the recipe's kind is one of PEFT's.
        recipe: What was attached.
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
        self.inner = inner
        self.recipe = recipe
        self.parts = parts
        self.trained = trained
        self.altered = altered

    @property
    def tuner(self) -> PeftModel | None:
        """PEFT's wrapper, where there is one."""
        return None if isinstance(self.inner, SAM2Base) else self.inner


def attach_adapters(model: SAM2Base, recipe: AdapterRecipe, seed: int) -> AdaptedModel:
    """Freezes the model, puts adapters into it, and opens the parts that the recipe trains in full.

    At first the adapted model equals the base exactly, as each update starts at zero; PiSSA's, which starts from
    the weights' greatest singular values, equals it within rounding. Parts that are trained in full are kept a
    second time, frozen: a copy of the whole image encoder (0.9 GB for SAM2.1 large) with ``train_encoder``.

    Args:
        model: The bare model; it is changed in place.
        recipe: Kind, size and place of the adapters, and what is trained besides.
        seed: Of the adapters' first weights; PyTorch's global generator is left as it was.
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
            sites = list_bottleneck_sites(model, recipe)
            attach_bottlenecks(model, sites, recipe.rank, recipe.dropout)
    for value in trained.current().values():
        value.requires_grad_(True)
    return AdaptedModel(inner, recipe, parts, trained, altered)


def get_base(adapted: AdaptedModel) -> SAM2Base:
    """Returns the SAM2 model inside, adapters and all: what the forward pass takes."""
    base = adapted.inner if adapted.tuner is None else adapted.tuner.get_base_model()
    assert isinstance(base, SAM2Base)
    return base


@contextmanager
def adapters_off(adapted: AdaptedModel) -> Iterator[SAM2Base]:
    """While this lasts the model is the zero-shot one again, bit for bit, parts trained in full included."""
    with ExitStack() as stack:
        if adapted.tuner is not None:
            stack.enter_context(adapted.tuner.disable_adapter())
        stack.enter_context(bottlenecks_off(get_base(adapted)))
        stack.enter_context(fusion_off(get_base(adapted)))
        stack.enter_context(adapted.trained.put_back())
        stack.enter_context(adapted.altered.put_back())
        yield get_base(adapted)


def can_merge(adapted: AdaptedModel) -> bool:
    """Says whether the weights of a stock model can hold what was trained; see :func:`name_unmergeable`."""
    return not name_unmergeable(adapted)


def name_unmergeable(adapted: AdaptedModel) -> str:
    """Names what no weights of a stock model can hold, bottleneck adapters or a fusion; empty where all can be."""
    base = get_base(adapted)
    parts = ["adapters of kind bottleneck"] if list_bottleneck_weights(base) else []
    if (fusion := find_fusion(base)) is not None:
        parts.append(f"a fusion with the encoder {fusion.encoder.name}")
    return " and ".join(parts)


def merge_adapters(adapted: AdaptedModel) -> SAM2Base:
    """Adds the updates to the weights; returns a stock model with stock keys. The adapted one is used up.

    Raises:
        TrainablesError: If what was trained cannot be merged; see :func:`can_merge`.
    """
    if not can_merge(adapted):
        raise TrainablesError(
            f"{name_unmergeable(adapted)} cannot be merged into a stock SAM2 checkpoint: "
            "load the model by trainables.export.unmerged.load_unmerged"
        )
    adapted.eval()  # in training mode LoHa and LoKr would merge what their dropout left
    merged = get_base(adapted) if adapted.tuner is None else adapted.tuner.merge_and_unload()
    assert isinstance(merged, SAM2Base)
    return merged


def save_adapters(adapted: AdaptedModel, folder: Path) -> None:
    """Writes ``adapter_config.json`` and ``adapter_model.safetensors``.

    Of PEFT's kinds they are as PEFT writes them, parts trained in full under ``modules_to_save``:
    ``PeftModel.from_pretrained`` loads them onto a stock model. Of the other kinds the weights have their names in
    the model; without bottleneck adapters these are stock SAM2's own. A fusion has two files of its own, so that
    these stay as they are; see :func:`trainables.model.fusion.save_fusion`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if adapted.tuner is None:
        (folder / CONFIG_FILE).write_text(json.dumps(_describe(adapted), indent=2))
    else:
        config = copy.copy(adapted.tuner.active_peft_config)
        config.modules_to_save = adapted.parts or None
        config.inference_mode = True
        config.save_pretrained(str(folder))
    state = {name: value.detach().contiguous() for name, value in _list_saved_weights(adapted).items()}
    save_file(state, folder / WEIGHTS_FILE, metadata={"format": "pt"})
    save_fusion(get_base(adapted), folder)


def load_adapter_weights(adapted: AdaptedModel, folder: Path) -> None:
    """Puts the weights of a saved adapter into a model that is wrapped by the same recipe.

    Only safetensors are read: a folder from a stranger cannot run code.

    Raises:
        CheckpointError: If ``adapter_model.safetensors`` or ``adapter_config.json`` is missing or damaged; if the
            saved adapter has weights that this one lacks, or the other way round, or is of another kind, rank or
            alpha (which its weights do not tell); or if it was trained beside a pathology encoder with other weights.
    """
    path = folder / WEIGHTS_FILE
    state, expected, described = load_saved(path), _list_saved_weights(adapted), _describe(adapted)
    if odd := sorted(set(state) ^ set(expected)):
        raise refuse_other(path, f"{len(odd)} weights differ in name (first: {odd[0]})")
    saved = read_json(folder / CONFIG_FILE, dict[str, Any], COPY_FIX, CheckpointError)
    for key, mine in described.items():
        if saved.get(key) != mine:
            raise refuse_other(folder / CONFIG_FILE, f"{key} must be {mine}, but got {saved.get(key)}")
    if odd := sorted(name for name, value in expected.items() if state[name].shape != value.shape):
        raise refuse_other(path, f"{len(odd)} weights differ in shape (first: {odd[0]})")
    check_fusion(get_base(adapted), folder)
    own = _list_own_weights(adapted)
    if adapted.tuner is not None:
        from peft.utils import set_peft_model_state_dict

        tuned = {name: value for name, value in state.items() if name not in own}
        set_peft_model_state_dict(adapted.tuner, tuned)
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(state[name])
    load_fusion_weights(get_base(adapted), folder)


def count_parameters(adapted: AdaptedModel) -> tuple[int, int]:
    """Returns how many parameters are trained, and how many there are (adapters and frozen copies too)."""
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in adapted.parameters()]
    return sum(size for size, trained in sizes if trained), sum(size for size, _ in sizes)


def _list_own_weights(adapted: AdaptedModel) -> dict[str, nn.Parameter]:
    """Returns, by their saved names, the trained weights that PEFT knows nothing of."""
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
    """Returns what tells this adapter apart from one whose weights have the same names."""
    if adapted.tuner is not None:
        return describe_config(adapted.tuner.active_peft_config)
    # Without a tuner nothing of PEFT's kinds was placed: only what is trained in full counts.
    if not list_bottleneck_weights(get_base(adapted)):
        return {"kind": "none", "parts": adapted.parts}
    return {"kind": "bottleneck", "rank": adapted.recipe.rank, "parts": adapted.parts}

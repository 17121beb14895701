"""Loads and scores candidates: zero-shot, or a trial's checkpoint or a soup of several at a scale."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from sam2.modeling.sam2_base import SAM2Base
from torch import Tensor

from trainables.adapters.adapted_model import (
    AdaptedModel,
    attach_adapters,
    get_base,
    load_adapter_weights,
    merge_adapters,
    name_unmergeable,
)
from trainables.adapters.interpolation import interpolate_weights
from trainables.adapters.scales import SCALES, check_scale
from trainables.adapters.soup import WeightMean
from trainables.context import ADAPTER_FOLDER, RECIPE_FILE, TrialContext
from trainables.data.store import RegionStore
from trainables.errors import CheckpointError, Finding, TrainablesError
from trainables.evaluation.evaluation_set import EvaluationSet
from trainables.evaluation.evaluator import evaluate
from trainables.evaluation.soup_folder import is_soup, list_members
from trainables.files.json_reader import read_json
from trainables.files.weight_file import COPY_FIX
from trainables.model.class_prompts import (
    attach_class_prompts,
    find_class_prompts,
    load_class_prompts,
    start_class_prompts,
)
from trainables.model.device import pick_device, use_ray_share
from trainables.model.frozen_prefix import find_prefix
from trainables.model.fusion import add_fusion
from trainables.model.weights import load_model
from trainables.protocol.scores import Scores
from trainables.recipe import Recipe, RecipeError


@dataclass(frozen=True)
class Candidate:
    """A model that can be scored: a trial's checkpoint, or one fold's in it, or a soup's folder; None for zero-shot.

    ``scale`` multiplies the fine-tune's change of the weights; see :mod:`trainables.adapters.interpolation`.
    """

    checkpoint: Path | None
    scale: float = 1.0


def load_adapted(context: TrialContext, checkpoint: Path) -> AdaptedModel:
    """Rebuilds a trial's adapted model from a checkpoint of ``FineTune.save``, on the CPU."""
    bare = load_model(context.model, context.checkpoint)
    return adapt_model(bare, checkpoint, read_recipe(checkpoint), context.pathology_weights)


def load_adapted_with_base(context: TrialContext, checkpoint: Path) -> tuple[dict[str, Tensor], AdaptedModel]:
    """Returns a copy of the zero-shot weights, and the model of :func:`load_adapted`; reads the file once."""
    bare = load_model(context.model, context.checkpoint)
    base_state = {name: value.clone() for name, value in bare.state_dict().items()}
    return base_state, adapt_model(bare, checkpoint, read_recipe(checkpoint), context.pathology_weights)


def load_merged_states(context: TrialContext, checkpoint: Path) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Returns the zero-shot weights, and those of a checkpoint with its update merged; of a soup, its members' mean.

    Raises:
        CheckpointError: If a checkpoint or the base cannot be read.
        TrainablesError: If an adapter cannot be merged.
    """
    base_state: dict[str, Tensor] = {}
    mean = WeightMean()
    for member in list_members(checkpoint):
        base_state, adapted = load_adapted_with_base(context, member)
        _refuse_class_prompts(adapted)
        mean = mean.add(merge_adapters(adapted).state_dict())
    return base_state, mean.to_state()


def adapt_model(bare: SAM2Base, folder: Path, recipe: Recipe, pathology_weights: Mapping[str, str]) -> AdaptedModel:
    """Adds a recipe's trained adapters, fusion and class prompts to a bare model, in place.

    The bare model has the weights that training began with; the folder holds ``adapter/``, and class prompts if the
    recipe has some.
    """
    # The saved weights replace whatever the seed draws.
    adapted = attach_adapters(bare, recipe.adapter, seed=0)
    add_fusion(get_base(adapted), recipe.fusion, pathology_weights, seed=0)
    load_adapter_weights(adapted, folder / ADAPTER_FOLDER)
    if recipe.class_prompts.tokens:
        attach_class_prompts(get_base(adapted), load_class_prompts(folder))
    return adapted


def read_recipe(folder: Path) -> Recipe:
    """Reads ``recipe.json`` of a checkpoint or an export.

    Raises:
        CheckpointError: If the file is missing or damaged, or holds no recipe of this version.
    """
    path = folder / RECIPE_FILE
    try:
        return Recipe.from_flat(read_json(path, dict[str, Any], COPY_FIX, CheckpointError))
    except RecipeError as error:
        found = [Finding(f"{path} {each.where}", each.what, COPY_FIX) for each in error.findings]
        raise CheckpointError(found) from error


def load_zero_shot(context: TrialContext) -> SAM2Base:
    """Returns the bare model, on the CPU.

    Without prompts, zero-shot SAM2 has no answer of its own: it is given one class token per class, the start of
    training.
    """
    model = load_model(context.model, context.checkpoint).requires_grad_(False)
    if context.protocol.is_auto:
        n_classes = len(RegionStore(context.store_folder).classes)
        attach_class_prompts(model, start_class_prompts(model, n_classes, 1, context.seed))
    return model


def load_candidate(context: TrialContext, checkpoint: Path | None, scale: float = 1.0) -> SAM2Base:
    """Returns a candidate, ready for the forward pass, on this process's device.

    At scale 1 it is the model as training scores it, its adapter beside the weights: scores are equal to the bit, and
    adapters that cannot be merged work. At scale 0, or without a checkpoint, it is zero-shot, bit for bit. At other
    scales, and in soups, adapters are merged into the weights, which are then interpolated, as in the export. Merged
    and unmerged differ by rounding: by some 1e-6 of the greatest logit in float32, by more if CUDA computes in
    bfloat16.

    Raises:
        InputError: If the scale is out of its limits, or the checkpoint or the base cannot be read.
        TrainablesError: If the adapter cannot be merged, and the scale is neither 0 nor 1.
    """
    check_scale(scale)
    if checkpoint is None or scale == 0:
        return load_zero_shot(context).to(pick_device())
    if scale == 1 and not is_soup(checkpoint):
        return get_base(load_adapted(context, checkpoint)).to(pick_device())
    states = load_merged_states(context, checkpoint)
    model = load_model(context.model, context.checkpoint)
    _freeze_unchanged(model, *states)
    model.load_state_dict(interpolate_weights(*states, scale))
    return model.to(pick_device())


def score_between(
    model: SAM2Base,
    states: tuple[Mapping[str, Tensor], Mapping[str, Tensor]],
    scales: Sequence[float],
    regions: EvaluationSet,
) -> dict[float, Scores]:
    """Scores what lies between zero-shot and merged weights, by scale, in their order.

    The model, a bare one on its device, is used for all scales; its weights are those of the last one afterwards.
    """
    model.load_state_dict(states[0])
    _freeze_unchanged(model, *states)
    device, found = next(model.parameters()).device, dict[float, Scores]()
    prefix = find_prefix(model, regions.store.folder, device)
    for scale in scales:
        model.load_state_dict(interpolate_weights(*states, scale))
        with torch.inference_mode():
            found[scale] = evaluate(model, regions, device, prefix=prefix)
    return found


def _freeze_unchanged(model: SAM2Base, base_state: Mapping[str, Tensor], tuned_state: Mapping[str, Tensor]) -> None:
    """Marks the weights that training changed as those that require a gradient: the others are zero-shot's."""
    for name, value in model.named_parameters():
        value.requires_grad_(not torch.equal(base_state[name], tuned_state[name]))


def score_candidate(context: TrialContext, checkpoint: Path | None, names: Sequence[str], scale: float = 1.0) -> Scores:
    """Scores a candidate of :func:`load_candidate` on named regions under the search's protocol; raises as that."""
    regions, device = open_regions(context, names), pick_device()
    with torch.inference_mode():
        return _score(load_candidate(context, checkpoint, scale), regions, device)


def _score(model: SAM2Base, regions: EvaluationSet, device: torch.device) -> Scores:
    return evaluate(model, regions, device, prefix=find_prefix(model, regions.store.folder, device))


def score_scales(
    context: TrialContext, checkpoint: Path, names: Sequence[str], scales: Sequence[float] = SCALES
) -> dict[float, Scores]:
    """Scores a trial's checkpoint, or a soup, at several scales; the model is built once.

    Each scale's scores equal those of :func:`score_candidate` exactly; those of scale 0 are zero-shot's.

    Returns:
        Scores by scale, in the order of the scales; only those of 0 and 1 if a trial's adapter cannot be merged.

    Raises:
        InputError: If a scale is out of its limits, or the checkpoint or the base cannot be read.
        TrainablesError: If a member of a soup cannot be merged, or class prompts were to be scaled or averaged.
    """
    for scale in scales:
        check_scale(scale)
    regions, device = open_regions(context, names), pick_device()
    found: dict[float, Scores] = {}
    with torch.inference_mode():
        if is_soup(checkpoint):
            states = load_merged_states(context, checkpoint)
        else:
            states = None
            base_state, adapted = load_adapted_with_base(context, checkpoint)
            if set(scales) - {0, 1}:
                _refuse_class_prompts(adapted)
            if 1.0 in scales:  # first: merging consumes the adapter
                found[1.0] = _score(get_base(adapted).to(device), regions, device)
            if set(scales) - {0, 1} and not name_unmergeable(adapted):
                states = base_state, merge_adapters(adapted.cpu()).state_dict()
        if states is not None:
            model = load_model(context.model, context.checkpoint).to(device)
            found |= score_between(model, states, [each for each in scales if each and each not in found], regions)
        if 0.0 in scales:
            found[0.0] = _score(load_candidate(context, None), regions, device)
    return {scale: found[scale] for scale in scales if scale in found}


def _refuse_class_prompts(adapted: AdaptedModel) -> None:
    if find_class_prompts(get_base(adapted)) is not None:
        raise TrainablesError(
            "class prompts have no start in zero-shot: they are neither scaled nor averaged; score each at scale 1"
        )


def score_model(context: TrialContext, model: SAM2Base) -> Scores:
    """Scores a model on the search's validation regions by the project's evaluator, on this process's device."""
    regions, device = open_regions(context, context.val), pick_device()
    with torch.inference_mode():
        return evaluate(model.to(device), regions, device)


def open_regions(context: TrialContext, names: Sequence[str]) -> EvaluationSet:
    """Returns regions of the search with their prompts, and makes this process use its share of the CPUs."""
    use_ray_share()
    return EvaluationSet(RegionStore(context.store_folder), names, context.protocol, context.train)

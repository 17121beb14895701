"""Finds weights in files of other trainers and libraries, which wrap them or give them other names."""

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from trainables.errors import CheckpointError, count_things, list_some

# Modules that PyTorch puts around others: by torch.compile, FSDP, activation checkpointing.
_WRAPPERS = re.compile(r"\b(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
# SAM2's names -> those of Sam2Model and Sam2VideoModel in the package transformers, one rule after the other: first
# those of the parts, with which alone some files were written, then those inside the parts.
_PARTS = {
    r"^image_encoder\.trunk\.": "vision_encoder.backbone.",
    r"^image_encoder\.": "vision_encoder.",
    r"^sam_(prompt_encoder|mask_decoder)\.": r"\1.",
}
_INSIDE = {
    r"\bpatch_embed\.proj\.": "patch_embed.projection.",
    r"\b(neck\.convs\.\d+)\.conv\.": r"\1.",
    r"\bpe_layer\.positional_encoding_gaussian_matrix$": "shared_embedding.positional_embedding",
    r"\bmask_downscaling\.0\.": "mask_embed.conv1.",
    r"\bmask_downscaling\.1\.": "mask_embed.layer_norm1.",
    r"\bmask_downscaling\.3\.": "mask_embed.conv2.",
    r"\bmask_downscaling\.4\.": "mask_embed.layer_norm2.",
    r"\bmask_downscaling\.6\.": "mask_embed.conv3.",
    r"\boutput_upscaling\.0\.": "upscale_conv1.",
    r"\boutput_upscaling\.1\.": "upscale_layer_norm.",
    r"\boutput_upscaling\.3\.": "upscale_conv2.",
    r"^obj_ptr_proj\.": "object_pointer_proj.",
    r"(_mlps\.\d+|_head|_proj)\.layers\.0\.": r"\1.proj_in.",
    r"(_mlps\.\d+|_head|_proj)\.layers\.1\.": r"\1.layers.0.",
    r"(_mlps\.\d+|_head|_proj)\.layers\.2\.": r"\1.proj_out.",
    r"\bmlp\.layers\.0\.": "mlp.proj_in.",
    r"\bmlp\.layers\.1\.": "mlp.proj_out.",
    r"^memory_encoder\.out_proj\.": "memory_encoder.projection.",
    r"\bpix_feat_proj\.": "feature_projection.",
    r"\bfuser\.": "memory_fuser.",
    r"\bgamma$": "scale",
    r"\bdwconv\.": "depthwise_conv.",
    r"\bpwconv(\d)\.": r"pointwise_conv\1.",
    r"\bmask_downsampler\.encoder\.12\.": "mask_downsampler.final_conv.",
    **{rf"\bmask_downsampler\.encoder\.{3 * n}\.": f"mask_downsampler.layers.{n}.conv." for n in range(4)},
    **{rf"\bmask_downsampler\.encoder\.{3 * n + 1}\.": f"mask_downsampler.layers.{n}.norm." for n in range(4)},
    r"\bout_proj\.": "o_proj.",
    r"\bnorm(\d?)\.": r"layer_norm\1.",
    r"\bnorm_final_attn\.": "layer_norm_final_attn.",
    r"^no_mem_embed$": "no_memory_embedding",
    r"^no_mem_pos_enc$": "no_memory_positional_encoding",
    r"^maskmem_tpos_enc$": "memory_temporal_positional_encoding",
    r"^no_obj_ptr$": "no_object_pointer",
    r"^no_obj_embed_spatial$": "occlusion_spatial_embedding_parameter",
    r"^obj_ptr_tpos_proj\.": "temporal_positional_encoding_projection_layer.",
}
_POINTS = "prompt_encoder.point_embed"  # one weight there, four in SAM2
_POSITIONS = ("prompt_encoder.shared_embedding.positional_embedding", "shared_image_embedding.positional_embedding")
# What Sam2Model has; Sam2VideoModel has the rest too.
_FOR_IMAGES = ("image_encoder.", "sam_prompt_encoder.", "sam_mask_decoder.", "no_mem_embed")


def find_state(content: object, path: Path, notes: list[str]) -> dict[str, Tensor]:
    """Returns the state dictionary in what a file holds: under the key ``model``, bare, or under the only other key.

    Args:
        content: What PyTorch's loader returned.
        path: Of the file, for errors.
        notes: Receives a sentence where the weights lie elsewhere than in published checkpoints.

    Raises:
        CheckpointError: If there is none, or more than one.
    """
    fix = "pass a state dictionary of tensors alone, as published checkpoints are"
    if not isinstance(content, dict):
        raise CheckpointError.at(path, f"holds no state dictionary but a {type(content).__name__}", fix)
    for state in (content.get("model"), content):
        if isinstance(state, dict) and _is_state(state):
            return dict(state)
    keys = [key for key, value in content.items() if _is_state(value)]
    if not keys:
        names = list_some(list(content)) if content else "none"
        raise CheckpointError.at(path, f"holds no state dictionary of tensors; its keys: {names}", fix)
    if len(keys) > 1:
        what = f"holds more than one state dictionary, under {' and '.join(map(repr, keys))}"
        raise CheckpointError.at(path, what, "save the one that you mean alone, under the key 'model'")
    notes.append(f"the weights were read from its key {keys[0]!r}")
    return dict(content[keys[0]])


def _is_state(value: object) -> bool:
    return (
        isinstance(value, dict)
        and bool(value)
        and all(isinstance(name, str) and isinstance(each, Tensor) for name, each in value.items())
    )


def adopt_names(
    state: Mapping[str, Tensor], wanted: Mapping[str, Tensor], path: Path, notes: list[str]
) -> dict[str, Tensor]:
    """Returns weights by SAM2's own names, where a trainer put something in front of them or transformers renamed them.

    Names that are neither stay as they are.

    Args:
        state: What the file holds.
        wanted: The weights of the model.
        path: Of the file, for errors.
        notes: Receives a sentence for everything that was changed.

    Raises:
        CheckpointError: If the model is there twice, such as with and without averaging.
    """
    for rules in ({}, _PARTS, _PARTS | _INSIDE):
        known = {_rename(name, rules): name for name in wanted}
        if found := take_off_prefix(state, max(known, key=len), path, notes):
            return _from_transformers(found, known, wanted, notes) if rules else found
    return dict(state)


def take_off_prefix(state: Mapping[str, Tensor], anchor: str, path: Path, notes: list[str]) -> dict[str, Tensor] | None:
    """Returns weights without what a trainer put in front of their names, or None if there is no weight of the model.

    The anchor is the name of one of the model's weights. Notes and errors are those of :func:`adopt_names`.
    """
    plain = {_WRAPPERS.sub("", name): value for name, value in state.items()}
    prefixes = [name.removesuffix(anchor) for name in plain if f".{name}".endswith(f".{anchor}")]
    if len(prefixes) > 1:
        what = f"holds the model more than once, with {' and '.join(map(repr, prefixes))} in front of the names"
        raise CheckpointError.at(path, what, "save the one that you mean alone, under the key 'model'")
    if not prefixes:
        return None
    (prefix,) = prefixes
    if plain.keys() != state.keys():
        notes.append("its names were read without those of the modules that torch.compile or FSDP put around others")
    if prefix:
        left = sorted(name for name in plain if not name.startswith(prefix))
        others = f", and {count_things(len(left), 'weight')} without it left out (first: {left[0]})" if left else ""
        notes.append(f"its names were read without {prefix!r} in front{others}")
    return {name.removeprefix(prefix): value for name, value in plain.items() if name.startswith(prefix)}


def name_for_transformers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the weights of a SAM2 model that segment images under the names of Sam2Model: :func:`adopt_names` back.

    What only video needs is left out, as Sam2Model has no such parts.
    """
    found = {_rename(name, _PARTS | _INSIDE): value for name, value in state.items() if name.startswith(_FOR_IMAGES)}
    points = [name for name in found if name.startswith(f"{_POINTS}dings.")]
    found[f"{_POINTS}.weight"] = torch.cat([found.pop(name) for name in sorted(points)])
    return found | dict.fromkeys(_POSITIONS, found[_POSITIONS[0]])


def _rename(name: str, rules: Mapping[str, str]) -> str:
    for pattern, new in rules.items():
        name = re.sub(pattern, new, name)
    return name


def _from_transformers(
    state: dict[str, Tensor], known: Mapping[str, str], wanted: Mapping[str, Tensor], notes: list[str]
) -> dict[str, Tensor]:
    notes.append("its names were read as those of Sam2Model in the package transformers")
    points = state.pop(f"{_POINTS}.weight", torch.zeros(0))
    state |= {f"{_POINTS}dings.{index}.weight": row[None] for index, row in enumerate(points)}
    positions = [state.pop(name) for name in _POSITIONS if name in state]
    state |= dict.fromkeys(_POSITIONS[:1], positions[0]) if positions else {}
    found = {known.get(name, name): value for name, value in state.items()}
    for_video = {name for name in wanted if not name.startswith(_FOR_IMAGES)}
    if not for_video & found.keys():
        found |= {name: torch.zeros_like(wanted[name]) for name in for_video}
        notes.append("the parts for video, which it lacks, are zero: the model and its export segment images alone")
    return found

"""Reads SAM2 weights: nano's own, a ``.pt`` or ``.safetensors`` file, or a hub id.

Nothing in a file can run code.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from sam2.build_sam import HF_MODEL_ID_TO_FILENAMES
from sam2.modeling.sam2_base import SAM2Base
from torch import Tensor

from trainables.errors import CheckpointError, Finding
from trainables.files.weight_file import check_finite, check_plain, check_weight_file
from trainables.model.build import ASSETS, MODELS, ModelSpec, build_architecture
from trainables.recipe import suggest_name

NANO_WEIGHTS = ASSETS / "nano.safetensors"


def find_model(name: str) -> ModelSpec:
    """Returns the model of a name.

    Raises:
        CheckpointError: If there is none of that name.
    """
    if name not in MODELS:
        raise CheckpointError([Finding(f"--model {name}", "no such model", suggest_name(name, MODELS))])
    return MODELS[name]


def load_model(name: str, checkpoint: str | None) -> SAM2Base:
    """Builds a model with its weights, on the CPU, in evaluation mode.

    Args:
        name: ``nano``, ``tiny``, ``small``, ``base_plus`` or ``large``.
        checkpoint: A file, or a hub id such as ``facebook/sam2.1-hiera-large``; None for nano's own weights.

    Raises:
        CheckpointError: If there is no such model, or the weights are missing, unreadable, not finite or of another
            size.
    """
    spec = find_model(name)
    model = build_architecture(spec)
    path = find_weights(spec, checkpoint)
    load_strictly(model, read_weights(path), spec, path)
    return model


def find_weights(spec: ModelSpec, checkpoint: str | None) -> Path:
    """Returns the weights' file; a hub id is fetched into, or found in, the local Hugging Face cache.

    Raises:
        CheckpointError: If there is no such file, a stock model was asked for without weights, or the hub id
            is another model's (told before hundreds of megabytes are fetched).
    """
    if checkpoint is None:
        if spec.is_demo:
            return NANO_WEIGHTS
        raise CheckpointError(
            [
                Finding(
                    f"--model {spec.name}",
                    "needs weights, and no --checkpoint was given",
                    f"download sam2.1_hiera_{spec.name}.pt and pass its path, "
                    f"or pass --checkpoint {spec.hub_id}",
                )
            ]
        )
    path = Path(os.path.expanduser(checkpoint))  # not the method: it raises where there is no such user
    if path.exists():
        return path.resolve()
    if checkpoint in HF_MODEL_ID_TO_FILENAMES:
        return _fetch_from_hub(spec, checkpoint)
    fix = "check the path given to --checkpoint"
    raise CheckpointError([Finding(checkpoint, "no such file, and not a SAM2 hub id", fix)])


def read_weights(path: Path) -> dict[str, Tensor]:
    """Reads a state dictionary; ``.pt`` files by PyTorch's ``weights_only`` loader.

    Raises:
        CheckpointError: If the file is missing, no regular file, truncated, damaged, holds code, or holds no state
            dictionary of plain tensors (under the key ``model``, or bare).
    """
    check_weight_file(path)
    try:
        if path.suffix == ".safetensors":
            state: object = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
            state = content.get("model", content) if isinstance(content, dict) else content
    except pickle.UnpicklingError as error:
        raise _refuse(
            path, "holds more than weights, or is not a checkpoint; it was not opened", "use a file you trust"
        ) from error
    except Exception as error:  # on damaged bytes the loaders raise almost anything, IndexError too
        size = path.stat().st_size
        reason = str(error) or type(error).__name__
        raise _refuse(
            path, f"cannot be read as weights ({size:,} bytes; truncated?): {reason}", "download it again"
        ) from error
    if not isinstance(state, dict) or not _holds_tensors(state):
        raise _refuse(path, "holds no state dictionary under the key 'model'", "pass a SAM2.1 checkpoint")
    check_plain(state, path)
    return {name: value.float() for name, value in state.items()}


def _holds_tensors(state: Mapping[object, object]) -> bool:
    items = state.items()
    return bool(state) and all(isinstance(name, str) and isinstance(value, Tensor) for name, value in items)


def load_strictly(model: SAM2Base, state: Mapping[str, Tensor], spec: ModelSpec, path: Path) -> None:
    """Loads weights whose names and shapes must all fit, and whose values must be finite.

    Raises:
        CheckpointError: Naming what does not fit, and the model that would; or what is not finite.
    """
    misfits = list_misfits(model, state)
    if misfits:
        other = guess_model(state)
        hint = "pass a SAM2.1 checkpoint of this size (those of SAM2.0 lack weights)"
        if other and other != spec.name:
            hint = f"it looks like {other}: pass --model {other}"
        raise _refuse(path, f"does not fit the model {spec.name!r}: {', '.join(misfits)}", hint)
    check_finite(state, path)
    model.load_state_dict(dict(state))


def list_misfits(model: torch.nn.Module, state: Mapping[str, Tensor]) -> list[str]:
    """Returns how weights differ from those of a model in names and shapes; empty if they fit."""
    wanted = model.state_dict()
    found = {
        "weights missing": sorted(set(wanted) - set(state)),
        "weights unknown": sorted(set(state) - set(wanted)),
        "weights of another shape": sorted(
            name for name in set(wanted) & set(state) if wanted[name].shape != state[name].shape
        ),
    }
    return [f"{len(names)} {what} (first: {names[0]})" for what, names in found.items() if names]


def guess_model(state: Mapping[str, Tensor]) -> str | None:
    """Returns the name of the model that weights belong to, by the image encoder's width and depth."""
    patch = state.get("image_encoder.trunk.patch_embed.proj.weight")
    if patch is None:
        return None
    blocks = {name.split(".")[3] for name in state if name.startswith("image_encoder.trunk.blocks.")}
    known = {
        (32, 7): "nano",
        (96, 12): "tiny",
        (96, 16): "small",
        (112, 24): "base_plus",
        (144, 48): "large",
    }
    return known.get((patch.shape[0], len(blocks)))


def _fetch_from_hub(spec: ModelSpec, hub_id: str) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    config, filename = HF_MODEL_ID_TO_FILENAMES[hub_id]
    if config != spec.config:
        other = next((model.name for model in MODELS.values() if model.config == config), None)
        fix = f"pass --model {other}" if other else f"pass --checkpoint {spec.hub_id or 'FILE'}"
        what = f"holds {other or 'SAM2.0'} weights, not those of {spec.name}"
        raise CheckpointError([Finding(f"--checkpoint {hub_id}", what, fix)])
    try:
        return Path(hf_hub_download(repo_id=hub_id, filename=filename))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise CheckpointError(
            [
                Finding(
                    f"--checkpoint {hub_id}",
                    f"could not be fetched ({type(error).__name__}), and is not in the local cache",
                    "download the .pt file on a machine with a connection and pass its path",
                )
            ]
        ) from error


def _refuse(path: Path, what: str, fix: str) -> CheckpointError:
    return CheckpointError([Finding(str(path), what, fix)])

"""Reads SAM2 weights: nano's own, a ``.pt`` or ``.safetensors`` file, or a hub id. Nothing in a file can run code."""

import os
import pickle
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from sam2.build_sam import HF_MODEL_ID_TO_FILENAMES
from sam2.modeling.sam2_base import SAM2Base
from torch import Tensor

from trainables.errors import CheckpointError, list_some, suggest_name
from trainables.files.weight_file import check_finite, check_plain, check_weight_file
from trainables.model.build import ASSETS, MODELS, ModelSpec, build_architecture
from trainables.model.weight_names import adopt_names, find_state

NANO_WEIGHTS = ASSETS / "nano.safetensors"
WEIGHT_SUFFIXES = (".pt", ".pth", ".bin", ".safetensors")
_HUB_ID = re.compile(r"(?:hf-hub:)?([\w.-]+/[\w.-]+)")
# Packages whose numbers, paths and settings trainers store beside weights. None of their code runs.
_HARMLESS = ("numpy.", "argparse.", "pathlib.", "omegaconf.", "lightning.", "lightning_fabric.", "pytorch_lightning.")
# Width of the patch embedding and number of blocks of each model's image encoder.
_ENCODER_SIZES = {(32, 7): "nano", (96, 12): "tiny", (96, 16): "small", (112, 24): "base_plus", (144, 48): "large"}


def find_model(name: str) -> ModelSpec:
    """Returns the model of a name.

    Raises:
        CheckpointError: If there is none of that name.
    """
    if name not in MODELS:
        raise CheckpointError.at(f"--model {name}", "no such model", suggest_name(name, MODELS))
    return MODELS[name]


def load_model(name: str, checkpoint: str | None) -> SAM2Base:
    """Builds ``nano``, ``tiny``, ``small``, ``base_plus`` or ``large`` with its weights, on the CPU, for evaluation.

    The checkpoint is a file, or a hub id such as ``facebook/sam2.1-hiera-large``; None for nano's own weights.

    Raises:
        CheckpointError: If there is no such model, or the weights are missing, unreadable, not finite or of another
            size.
    """
    spec = find_model(name)
    return load_with_notes(spec, find_weights(spec, checkpoint))[0]


def load_with_notes(spec: ModelSpec, path: Path) -> tuple[SAM2Base, list[str]]:
    """Returns the model of :func:`load_model`, and a sentence for all that published checkpoints have otherwise."""
    model, notes = build_architecture(spec), list[str]()
    state = adopt_names(read_weights(path, notes), model.state_dict(), path, notes)
    load_strictly(model, state, spec, path)
    return model, notes


def find_weights(spec: ModelSpec, checkpoint: str | None) -> Path:
    """Returns the weights' file; a hub id is looked up in the local Hugging Face cache, or downloaded.

    Raises:
        CheckpointError: If there is no such file, a stock model is named without weights, or the hub id
            is another model's (found before hundreds of megabytes are downloaded).
    """
    if checkpoint is None:
        if spec.is_demo:
            return NANO_WEIGHTS
        fix = f"download sam2.1_hiera_{spec.name}.pt and pass its path, or pass --checkpoint {spec.hub_id}"
        raise CheckpointError.at(f"--model {spec.name}", "needs weights, and no --checkpoint was given", fix)
    path = Path(os.path.expanduser(checkpoint))  # the method of Path raises where there is no such user
    if path.exists():
        return path.resolve()
    if checkpoint in HF_MODEL_ID_TO_FILENAMES:
        return _fetch_sam2(spec, checkpoint)
    what = "no such file, and not a SAM2 hub id"
    raise CheckpointError.at(checkpoint, what, "check the path given to --checkpoint")


def read_weights(path: Path, notes: list[str] | None = None) -> dict[str, Tensor]:
    """Reads a state dictionary as 32-bit floats; files of ``torch.save`` by PyTorch's ``weights_only`` loader.

    Args:
        path: The file.
        notes: As for :func:`trainables.model.weight_names.find_state`.

    Raises:
        CheckpointError: If the file is missing, no regular file, truncated, damaged, holds code, or does not hold one
            state dictionary of plain tensors.
    """
    notes = [] if notes is None else notes
    check_weight_file(path)
    try:
        with path.open("rb") as stream:  # by its first bytes too: a header of JSON behind its length
            is_safetensors = path.suffix.lower() == ".safetensors" or stream.read(9)[8:] == b"{"
        content = load_file(path) if is_safetensors else _unpickle(path, notes)
    except CheckpointError:
        raise
    except Exception as error:  # on damaged bytes the loaders raise almost anything, IndexError too
        reason = str(error) or type(error).__name__
        what = f"cannot be read as weights ({path.stat().st_size:,} bytes; truncated?): {reason}"
        raise CheckpointError.at(path, what, "download it again") from error
    state = find_state(content, path, notes)
    check_plain(state, path)
    return {name: value.float() for name, value in state.items()}


class _LeftOut:
    """Stands for an object beside the weights: it takes what the file gives it, and does nothing."""

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, _: object) -> None:
        pass


def _unpickle(path: Path, notes: list[str]) -> object:
    """Reads a file of ``torch.save`` by the ``weights_only`` loader; numbers and settings beside the weights are lost.

    Raises:
        CheckpointError: If it holds other objects.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        try:
            names = sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
        except Exception:  # on what is no archive of torch.save
            names = []
        if not names:
            what = "holds more than weights, or is not a checkpoint; it was not opened"
            raise CheckpointError.at(path, what, "use a file you trust") from error
        if not all(name.startswith(_HARMLESS) for name in names):
            what = f"holds more than weights, which could run code ({list_some(names)}); it was not opened"
            fix = "if you trust it, save its weights alone where it was made: torch.save(model.state_dict(), FILE)"
            raise CheckpointError.at(path, what, fix) from error
    notes.append(f"what it holds beside the weights was left out ({list_some(names)})")
    with torch.serialization.safe_globals([(_LeftOut, name) for name in names]):
        return torch.load(path, map_location="cpu", weights_only=True)


def load_strictly(model: SAM2Base, state: Mapping[str, Tensor], spec: ModelSpec, path: Path) -> None:
    """Loads weights whose names and shapes must all fit, and whose values must be finite.

    Raises:
        CheckpointError: Naming what does not fit, and the model that would; or what is not finite.
    """
    if misfits := list_misfits(model, state):
        other = guess_model(state)
        fix = "pass a SAM2.1 checkpoint of this size (those of SAM2.0 lack weights)"
        if any(".lora_" in name for name in state):
            fix = "its LoRA layers are not merged into the weights: merge them, and save the model again"
        elif other and other != spec.name:
            fix = f"it looks like {other}: pass --model {other}"
        raise CheckpointError.at(path, f"does not fit the model {spec.name!r}: {', '.join(misfits)}", fix)
    check_finite(state, path)
    model.load_state_dict(dict(state))


def list_misfits(model: torch.nn.Module, state: Mapping[str, Tensor]) -> list[str]:
    """Returns how weights differ from those of a model in names and shapes; empty if they fit."""
    wanted = model.state_dict()
    found = {
        "missing": set(wanted) - set(state),
        "unknown": set(state) - set(wanted),
        "of another shape": {name for name in set(wanted) & set(state) if wanted[name].shape != state[name].shape},
    }
    return [f"{len(names)} weights {what} (first: {min(names)})" for what, names in found.items() if names]


def guess_model(state: Mapping[str, Tensor]) -> str | None:
    """Returns the name of the model that weights belong to, by the image encoder's width and depth."""
    patch = state.get("image_encoder.trunk.patch_embed.proj.weight")
    if patch is None:
        return None
    blocks = {name.split(".")[3] for name in state if name.startswith("image_encoder.trunk.blocks.")}
    return _ENCODER_SIZES.get((patch.shape[0], len(blocks)))


def _fetch_sam2(spec: ModelSpec, hub_id: str) -> Path:
    config, filename = HF_MODEL_ID_TO_FILENAMES[hub_id]
    if config != spec.config:
        other = next((model.name for model in MODELS.values() if model.config == config), None)
        fix = f"pass --model {other}" if other else f"pass --checkpoint {spec.hub_id or 'FILE'}"
        what = f"holds {other or 'SAM2.0'} weights, not those of {spec.name}"
        raise CheckpointError.at(f"--checkpoint {hub_id}", what, fix)
    return fetch_from_hub(hub_id, (filename,), f"--checkpoint {hub_id}")


def find_hub_id(text: str) -> str | None:
    """Returns the repository on the Hugging Face hub that a text names; None if it names none, but perhaps a file."""
    match = _HUB_ID.fullmatch(text)
    return match[1] if match and not text.endswith(WEIGHT_SUFFIXES) else None


def fetch_from_hub(hub_id: str, filenames: Sequence[str], where: str) -> Path:
    """Returns the first of the files that a repository on the Hugging Face hub holds, or the local cache has.

    Raises:
        CheckpointError: If it holds none of them, or cannot be reached and the cache has none; ``where`` says what
            the user gave.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    fix = "check the id and your access to it, or download the weights elsewhere and pass their path"
    try:
        for filename in filenames:
            try:
                return Path(hf_hub_download(hub_id, filename))
            except LocalEntryNotFoundError:  # a kind of EntryNotFoundError, but means: no connection
                if filename == filenames[-1]:
                    raise
            except EntryNotFoundError:
                continue
    except Exception as error:  # of the connection, the hub, the disk, or the right to read: many kinds
        what = f"could not be fetched ({type(error).__name__}), and is not in the local cache"
        raise CheckpointError.at(where, what, fix) from error
    raise CheckpointError.at(where, f"holds none of {', '.join(filenames)}", fix)

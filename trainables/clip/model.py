"""Loads a CLIP model of open_clip (Radford et al. 2021, arXiv 2103.00020) with weights from a file or a hub.

It fetches nothing unless a hub id is named, and nothing in a file can run code.
"""

import os
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import open_clip
import torch
from jaxtyping import Float, Int64
from open_clip.factory import load_state_dict
from PIL import Image
from torch import Tensor, nn

from trainables.errors import CheckpointError, suggest_name
from trainables.files.json_reader import holds, read_json
from trainables.files.weight_file import check_finite, check_weight_file
from trainables.model.weights import WEIGHT_SUFFIXES, fetch_from_hub, find_hub_id

DEFAULT_CLIP = "ViT-B-32"
CONFIG_FILE = "open_clip_config.json"
# In the order in which they are requested from a hub's repository.
HUB_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")


@dataclass(frozen=True)
class ClipModel:
    """An image and a text encoder that share one space.

    Attributes:
        network: In evaluation mode, without gradients.
        tokenize: Turns texts into token ids.
        preprocess: Turns an image into the network's input: resized to its square, normalized.
        mean: The color that is 0 after normalization, RGB in [0, 1].
    """

    name: str
    network: nn.Module
    tokenize: Callable[[list[str]], Int64[Tensor, "texts length"]]
    preprocess: Callable[[Image.Image], Float[Tensor, "3 size size"]]
    mean: tuple[float, float, float]

    @property
    def device(self) -> torch.device:
        """The network's device."""
        return next(self.network.parameters()).device


@dataclass(frozen=True)
class ClipSource:
    """Where a model's parts come from, in open_clip's words.

    Attributes:
        architecture: A name of open_clip's, or ``local-dir:`` and a folder with ``open_clip_config.json``.
        tokenizer: The same, or ``hf-hub:`` and an id.
        weights: The weight file, or its folder.
    """

    name: str
    architecture: str
    tokenizer: str
    weights: Path


def check_clip_name(name: str) -> None:
    """Refuses a name that open_clip does not know.

    Raises:
        CheckpointError: With the nearest known name.
    """
    if name not in open_clip.list_models():
        fix = suggest_name(name, tuple(open_clip.list_models()))
        raise CheckpointError.at(f"--clip-model {name}", "open_clip has no such model", fix)


def find_clip(name: str | None, weights: str) -> ClipSource:
    """Returns where a model's weights lie, and their architecture.

    Args:
        name: One of open_clip's models. None is the architecture that comes with the weights, or ViT-B-32.
        weights: A file; a folder that holds ``open_clip_config.json`` and weights; or a hub id such as
            ``laion/CLIP-ViT-B-32-laion2B-s34B-b79K``, fetched into, or found in, the local Hugging Face cache.

    Raises:
        CheckpointError: If there is no such model, file or hub id, or the weights come with another
            architecture than the one named.
    """
    if name is not None:
        check_clip_name(name)
    path = Path(os.path.expanduser(weights))
    if path.exists() and not path.is_dir():
        _refuse_hub_parts(name or DEFAULT_CLIP, open_clip.get_model_config(name or DEFAULT_CLIP), weights)
        return ClipSource(name or DEFAULT_CLIP, name or DEFAULT_CLIP, name or DEFAULT_CLIP, path.resolve())
    if path.is_dir():
        config = _read_config(path, name)
        _refuse_hub_parts(path.name, config, weights)
        if not _list_weight_files(path):
            raise CheckpointError.at(weights, "holds no .safetensors, .bin or .pth file", "put the weights there")
        local = f"local-dir:{path.resolve()}"
        return ClipSource(name or path.name, local, local, path.resolve())
    hub_id = find_hub_id(weights)
    if hub_id is None:
        raise CheckpointError.at(
            weights, "no such file or folder, and no hub id", "check the path given to --clip-weights"
        )
    where = f"--clip-weights {hub_id}"
    folder = fetch_from_hub(hub_id, (CONFIG_FILE,), where).parent
    fetch_from_hub(hub_id, HUB_WEIGHTS, where)
    _read_config(folder, name)
    return ClipSource(hub_id, f"local-dir:{folder}", f"hf-hub:{hub_id}", folder)


def load_clip(name: str | None, weights: str, device: torch.device) -> ClipModel:
    """Builds a CLIP model with its weights, which must all fit; name and weights are those of :func:`find_clip`.

    Images are preprocessed as ``open_clip_config.json`` says if it comes with the weights, else as open_clip's table
    says if that has one way for the architecture, else as for OpenAI's models.

    Raises:
        CheckpointError: If the weights are missing, unreadable, damaged, hold code or values that are not finite,
            or do not fit.
    """
    source = find_clip(name, weights)
    for file in _list_weight_files(source.weights):
        check_weight_file(file)
    named = not source.architecture.startswith("local-dir:")
    try:
        network, _, preprocess = open_clip.create_model_and_transforms(
            source.architecture,
            pretrained=str(source.weights) if named else None,
            weights_only=True,
            **(_find_preprocessing(source.architecture) if named else {}),
        )
        tokenize = open_clip.get_tokenizer(source.tokenizer)
    except Exception as error:  # on damaged bytes the loaders raise almost anything
        raise _explain(source, error) from error
    check_finite(network.state_dict(), source.weights)
    network.requires_grad_(False)
    mean = tuple(float(value) for value in network.visual.image_mean)
    assert len(mean) == 3
    return ClipModel(source.name, network.eval().to(device), tokenize, preprocess, mean)


def _list_weight_files(weights: Path) -> list[Path]:
    """Returns the files among which open_clip would choose: a folder's weight files, or the file itself."""
    if not weights.is_dir():
        return [weights]
    return sorted(file for file in weights.iterdir() if file.suffix in WEIGHT_SUFFIXES[1:])


def _find_preprocessing(name: str) -> dict[str, Any]:
    """Returns how open_clip preprocesses images for all weights of an architecture; empty if these differ."""
    ways: list[dict[str, Any]] = []
    for tag in open_clip.list_pretrained_tags_by_model(name):
        known = open_clip.get_pretrained_cfg(name, tag)
        way = {f"image_{key}": known.get(key) for key in ("mean", "std", "interpolation", "resize_mode")}
        if way not in ways:
            ways.append(way)
    return ways[0] if len(ways) == 1 else {}


def _read_config(folder: Path, name: str | None) -> Mapping[str, Any]:
    """Returns a folder's architecture, which must be that of the name, if given."""
    path = folder / CONFIG_FILE
    if not path.exists():
        raise CheckpointError.at(
            folder, f"holds no {CONFIG_FILE}", "give the weights' file itself, with --clip-model NAME"
        )
    fix = "get it again from where the weights come from"
    config = read_json(path, _ConfigFile, fix, CheckpointError, unknown="ignore").model_cfg
    if name is not None:
        wanted = open_clip.get_model_config(name)
        for part in ("vision_cfg", "text_cfg"):
            found = config[part]
            for key in wanted[part].keys() & found.keys():
                if wanted[part][key] != found[key]:
                    what = f"holds another model than {name}: its {part}.{key} is {found[key]!r}"
                    raise CheckpointError.at(folder, what, "leave --clip-model out: the weights say what they are")
    return config


@dataclass(frozen=True)
class _Towers:
    vision_cfg: dict[str, Any]
    text_cfg: dict[str, Any]


@dataclass(frozen=True)
class _ConfigFile:
    """``open_clip_config.json``, as far as it is read."""

    model_cfg: Annotated[dict[str, Any], holds(_Towers)]


def _refuse_hub_parts(name: str, config: Mapping[str, Any], weights: str) -> None:
    """Refuses a model if open_clip would fetch a part of it without being asked to."""
    text = config["text_cfg"]
    tower, tokenizer = text.get("hf_model_name"), text.get("hf_tokenizer_name")
    if tower or (tokenizer and not Path(os.path.expanduser(weights)).is_dir()):
        what = f"{name} reads text with parts of {tower or tokenizer}, which would have to be fetched"
        raise CheckpointError.at(weights, what, "name the model's hub id instead, or take another model")


def _explain(source: ClipSource, error: Exception) -> CheckpointError:
    where, reason = str(source.weights), " ".join(str(error).split())[:300] or type(error).__name__
    if isinstance(error, pickle.UnpicklingError):
        what = "holds more than weights, or is not a checkpoint; it was not opened"
        return CheckpointError.at(where, what, "use a file you trust, best a .safetensors one")
    if "TorchScript" in reason:
        what = "is a TorchScript archive, which holds code; it was not opened"
        return CheckpointError.at(where, what, "pass the same weights as .safetensors (timm's hub pages have OpenAI's)")
    if _is_readable(source.weights):
        fix = f"pass the --clip-model they belong to ({source.name} is assumed)"
        return CheckpointError.at(where, f"does not fit the model {source.name}: {reason}", fix)
    fix = "download it again" if source.weights.is_file() else "check its configuration and weights"
    return CheckpointError.at(where, f"cannot be read as weights of {source.name}: {reason}", fix)


def _is_readable(path: Path) -> bool:
    """Returns whether a file holds weights of any model."""
    try:
        state = load_state_dict(str(path), weights_only=True)
        return bool(state) and all(isinstance(value, Tensor) for value in state.values())
    except Exception:  # on damaged bytes the loaders raise almost anything
        return False

"""A second image encoder, trained on pathology: any of timm's, with weights from a file or a hub id.

CTransPath (Wang et al. 2022, Medical Image Analysis 81, 102559) and UNI (Chen et al. 2024, Nature Medicine 30) have
names of their own. Nothing is downloaded unless a hub id is named, and nothing in a file can run code.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.errors import CheckpointError, suggest_name
from trainables.files.weight_file import check_finite
from trainables.model.forward import IMAGENET_MEAN, IMAGENET_STD
from trainables.model.weights import fetch_from_hub, find_hub_id, list_misfits, read_weights

OPTION = "--pathology-weights"
# Without weights the encoder is drawn by this seed, whatever the trial's: it is the same in every process.
RANDOM_SEED = 0
# In the order in which a repository on the hub is searched for them.
HUB_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_WRAPPERS = ("module.", "backbone.")
# What published files hold besides the encoder: classifiers, and buffers that the architecture computes itself.
_SURPLUS = re.compile(r"(head|head_dist|fc|classifier)\..*|.*\.(attn_mask|relative_position_index)")
_OLD_DOWNSAMPLE = re.compile(r"^layers\.(\d+)\.downsample\.")
_DEFAULT_STEP_PX = 32
_TRIED_SIDE = 64


class ConvStem(nn.Module):
    """CTransPath's stem: two 3 x 3 convolutions of stride 2 and a 1 x 1 one, in place of 4 x 4 patches.

    Takes what timm's Swin gives to its patch embedding; the layers have the names of the published weights.
    """

    def __init__(
        self, img_size: int | tuple[int, int], patch_size: int, in_chans: int, embed_dim: int, **_: Any
    ) -> None:
        super().__init__()
        assert patch_size == 4, "two strides of 2"
        height, width = (img_size, img_size) if isinstance(img_size, int) else img_size
        self.patch_size, self.grid_size = (4, 4), (height // 4, width // 4)
        layers: list[nn.Module] = []
        for n_in, n_out in ((in_chans, embed_dim // 8), (embed_dim // 8, embed_dim // 4)):
            layers += [nn.Conv2d(n_in, n_out, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(n_out), nn.ReLU()]
        self.proj = nn.Sequential(*layers, nn.Conv2d(embed_dim // 4, embed_dim, 1))
        self.norm = nn.LayerNorm(embed_dim)

    def forward(self, images: Float[Tensor, "regions 3 s s"]) -> Float[Tensor, "regions h w channels"]:
        """Returns the tokens of stride 4, channels last."""
        return self.norm(self.proj(images).permute(0, 2, 3, 1))  # type: ignore[no-any-return]


# How an encoder's training images were normalized, where it is not as timm's of the same architecture.
_BY_IMAGENET = {"pretrained_cfg_overlay": {"mean": IMAGENET_MEAN, "std": IMAGENET_STD}}
# Name -> timm's name of the architecture, and its options.
ENCODERS: dict[str, tuple[str, Mapping[str, Any]]] = {
    "ctranspath": ("swin_tiny_patch4_window7_224", {"embed_layer": ConvStem, **_BY_IMAGENET}),
    "uni": ("vit_large_patch16_224", {"init_values": 1e-5, **_BY_IMAGENET}),
}


class PathologyEncoder(nn.Module):
    """An encoder that takes regions of SAM2's size and gives one map of features.

    It stays in evaluation mode, also where its weights are trained: batch statistics of a few regions would
    replace those of its own training.

    Attributes:
        name: What the recipe calls it.
        n_channels: Of the map.
        is_trained: Whether gradients flow into it.
        fingerprint: Of the weights that it began with.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, name: str, network: nn.Module, takes_any_side: bool, is_trained: bool) -> None:
        super().__init__()
        self.name, self.network, self.is_trained = name, network, is_trained
        config: Mapping[str, Any] = network.pretrained_cfg  # type: ignore[assignment]
        for key in ("mean", "std"):
            self.register_buffer(key, torch.tensor(config[key]).view(1, 3, 1, 1), persistent=False)
        self._fixed_side = 0 if takes_any_side else int(config["input_size"][-1])
        self._step = _find_step(network)
        self.fingerprint = compute_fingerprint(network)
        network.requires_grad_(is_trained)
        self.eval()
        self.n_channels = self._count_channels()

    def pick_side(self, side: int) -> int:
        """Returns the side in pixels to which regions are resized.

        SAM2's own, rounded to what the encoder's patches fill; or the encoder's own where it takes no other.
        """
        return self._fixed_side or max(1, round(side / self._step)) * self._step

    def _count_channels(self) -> int:
        """Runs the encoder on a small region: what timm says of widths is not always what the map has."""
        try:
            with torch.no_grad():
                return int(self(torch.zeros(1, 3, _TRIED_SIDE, _TRIED_SIDE)).shape[1])
        except (AttributeError, NotImplementedError, RuntimeError, AssertionError, TypeError, ValueError) as error:
            what = f"gives no map of features ({type(error).__name__}: {str(error)[:120]})"
            where = f"fusion.encoder {self.name}"
            raise CheckpointError.at(where, what, "choose another of timm's encoders") from error

    def train(self, mode: bool = True) -> PathologyEncoder:
        """Stays in evaluation mode."""
        return super().train(False)

    def forward(self, images: Float[Tensor, "regions 3 s s"]) -> Float[Tensor, "regions channels h w"]:
        """Returns the map of the last layer, for RGB in [0, 1], square; without gradients where the encoder is frozen.

        Images are normalized here as the encoder's training images were.
        """
        side = self.pick_side(images.shape[-1])
        if side != images.shape[-1]:
            images = F.interpolate(images, (side, side), mode="bilinear", antialias=True)
        with torch.set_grad_enabled(self.is_trained and torch.is_grad_enabled()):
            (features,) = self.network.forward_intermediates(  # type: ignore[operator]
                (images - self.mean) / self.std, indices=1, norm=True, output_fmt="NCHW", intermediates_only=True
            )
        assert isinstance(features, Tensor)
        return features


def load_encoder(
    name: str, weights: str | None, is_trained: bool = False, notes: list[str] | None = None
) -> PathologyEncoder:
    """Builds an encoder on the CPU: ``ctranspath``, ``uni``, or one of timm's.

    The weights are a ``.safetensors`` file, a file of ``torch.save`` without code, or a hub id such as
    ``MahmoodLab/UNI``; None for random ones, the same every time. Gradients flow into an encoder that is trained.
    ``notes`` receives a sentence where the weights lie elsewhere in the file than in published ones.

    Raises:
        CheckpointError: If there is no such encoder, or weights are missing, unreadable, hold code, do not fit, or are
            not finite.
    """
    architecture, options = find_encoder(name)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(RANDOM_SEED)  # torch.manual_seed would reseed the GPUs as well
        network, takes_any_side = _build_network(architecture, options)
    if weights is not None:
        path = find_encoder_weights(name, weights)
        state = _fit_weights(name, network, _read_state(path, notes), path)
        check_finite(state, path)  # not before: buffers that are left out may well hold infinities
        network.load_state_dict(state)
    return PathologyEncoder(name, network, takes_any_side, is_trained)


def find_encoder(name: str) -> tuple[str, Mapping[str, Any]]:
    """Returns timm's name for the architecture of an encoder's name, and the architecture's options.

    Raises:
        CheckpointError: If neither this project nor timm knows it.
    """
    import timm  # late: it takes a second, and most models have no second encoder

    if name in ENCODERS:
        return ENCODERS[name]
    if not timm.is_model(name):
        known = (*ENCODERS, *timm.list_models())
        fix = suggest_name(name, known) if len(name) > 2 else "ctranspath, uni, or a name of timm.list_models()"
        raise CheckpointError.at(f"fusion.encoder {name}", "timm has no such encoder", fix[:200])
    return name, {}


def find_encoder_weights(name: str, weights: str) -> Path:
    """Returns the weights' file; a hub id is looked up in the local Hugging Face cache, or downloaded.

    Raises:
        CheckpointError: If there is no such file or repository.
    """
    path, where = Path(os.path.expanduser(weights)), f"{OPTION} {name}={weights}"
    if path.is_dir():
        raise CheckpointError.at(where, "is a folder, not a file", "check the path")
    if path.exists():
        return path.resolve()
    hub_id = find_hub_id(weights)
    if hub_id is None:
        raise CheckpointError.at(where, "no such file, and no hub id", "check the path")
    return fetch_from_hub(hub_id, HUB_WEIGHTS, where)


def compute_fingerprint(network: nn.Module) -> str:
    """Returns 16 hexadecimal digits of a hash over weights and buffers."""
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _build_network(architecture: str, options: Mapping[str, Any]) -> tuple[nn.Module, bool]:
    """Builds the architecture, for images of any size if it can; also returns whether it takes any size."""
    import timm

    # Vision transformers, and Swin since timm 1.0.20; Swin before; all that take any size anyway, or one alone.
    ways: tuple[dict[str, Any], ...] = ({"dynamic_img_size": True}, {"strict_img_size": False}, {})
    for way in ways:
        try:
            network: nn.Module = timm.create_model(architecture, pretrained=False, num_classes=0, **options, **way)
            break
        except TypeError:  # it has no such option
            if not way:
                raise
    config: Mapping[str, Any] = network.pretrained_cfg  # type: ignore[assignment]
    return network, bool(way) or not config.get("fixed_input_size")


def _find_step(network: nn.Module) -> int:
    """Returns the number of pixels that a side must be a multiple of."""
    patch = getattr(getattr(network, "patch_embed", None), "patch_size", None)
    if patch is None:
        return _DEFAULT_STEP_PX
    return int(patch[0]) if isinstance(patch, (tuple, list)) else int(patch)


def _read_state(path: Path, notes: list[str] | None) -> dict[str, Tensor]:
    """Reads weights, without the name of a module around the encoder."""
    state = read_weights(path, notes)
    for wrapper in _WRAPPERS:
        if all(name.startswith(wrapper) for name in state):
            state = {name.removeprefix(wrapper): value for name, value in state.items()}
    return state


def _fit_weights(name: str, network: nn.Module, state: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Returns the weights by the architecture's names, without what published files hold besides the encoder.

    Raises:
        CheckpointError: Naming what does not fit.
    """
    wanted = network.state_dict()
    if any(each.startswith("layers.0.downsample.") for each in state):
        # Swin of timm before 0.9, as CTransPath has it: a stage ended with the step down that now begins the next.
        state = {_OLD_DOWNSAMPLE.sub(_name_next_stage, each): value for each, value in state.items()}
    state = {each: value for each, value in state.items() if each in wanted or not _SURPLUS.fullmatch(each)}
    if misfits := list_misfits(network, state):
        what = f"does not fit the encoder {name}: {', '.join(misfits)}"
        raise CheckpointError.at(path, what, "name the encoder that these weights belong to")
    return state


def _name_next_stage(match: re.Match[str]) -> str:
    return f"layers.{int(match[1]) + 1}.downsample."

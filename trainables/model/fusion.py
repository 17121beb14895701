"""A second, pathology encoder beside SAM2's own, added to its embedding through a gate that starts at zero.

SAM-Path (Zhang et al. 2023, arXiv 2307.09570) sets a pathology encoder beside SAM's; the gate is that of Flamingo
(Alayrac et al. 2022, arXiv 2204.14198), without its tanh. No stock checkpoint can hold the result: it cannot be
merged.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from sam2.modeling.position_encoding import PositionEmbeddingSine
from sam2.modeling.sam2_base import SAM2Base
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.errors import CheckpointError
from trainables.files.weight_file import check_description, load_saved, refuse_other, save_weights
from trainables.model.forward import IMAGENET_MEAN, IMAGENET_STD
from trainables.model.pathology_encoder import OPTION, PathologyEncoder, load_encoder
from trainables.recipe import FusionRecipe

FUSION_FILE = "fusion.json"
FUSION_WEIGHTS_FILE = "fusion.safetensors"
_ATTRIBUTE = "pathology_fusion"
_N_HEADS = 8


class ConcatMixer(nn.Module):
    """``conv1x1([embedding, resampled features])``: each place of SAM2's map sees its own place of the other."""

    def __init__(self, n_channels: int, n_features: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(n_features)
        self.project = nn.Conv2d(n_channels + n_features, n_channels, 1)

    def forward(
        self, embedding: Float[Tensor, "regions channels h w"], features: Float[Tensor, "regions features h2 w2"]
    ) -> Float[Tensor, "regions channels h w"]:
        """Returns what is to be added to the embedding, before the gate."""
        normed = self.norm(features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        resampled = F.interpolate(normed, embedding.shape[-2:], mode="bilinear", align_corners=False)
        return self.project(torch.cat([embedding, resampled.to(embedding.dtype)], dim=1))  # type: ignore[no-any-return]


class AttentionMixer(nn.Module):
    """Cross-attention from SAM2's map to the other encoder's tokens: each place may look anywhere.

    Both maps get sine positions that span the region, so that places match whatever the sizes of the maps.
    """

    def __init__(self, n_channels: int, n_features: int) -> None:
        super().__init__()
        self.norm_queries = nn.LayerNorm(n_channels)
        self.norm = nn.LayerNorm(n_features)
        self.project = nn.Linear(n_features, n_channels)
        self.positions = PositionEmbeddingSine(n_channels, warmup_cache=False)
        self.attention = nn.MultiheadAttention(n_channels, _N_HEADS, batch_first=True)

    def forward(
        self, embedding: Float[Tensor, "regions channels h w"], features: Float[Tensor, "regions features h2 w2"]
    ) -> Float[Tensor, "regions channels h w"]:
        """Returns what is to be added to the embedding, before the gate."""
        queries = self.norm_queries(_flatten(embedding))
        tokens = self.project(self.norm(_flatten(features)))
        out, _ = self.attention(
            queries + _flatten(self.positions(embedding)),
            tokens + _flatten(self.positions(features)),
            tokens,
            need_weights=False,
        )
        return out.transpose(1, 2).reshape(embedding.shape)  # type: ignore[no-any-return]


class PathologyFusion(nn.Module):
    """``embedding + gate * mixer(embedding, encoder(image))`` on SAM2's map of stride 16.

    The mixer brings the second encoder's features to SAM2's map. The gate, one number or one for each channel, is zero
    at first: then the sum is the embedding itself.
    """

    def __init__(self, recipe: FusionRecipe, encoder: PathologyEncoder, n_channels: int) -> None:
        super().__init__()
        self.recipe, self.encoder = recipe, encoder
        mixer = {"concat": ConcatMixer, "attention": AttentionMixer}[recipe.kind]
        self.mixer = mixer(n_channels, encoder.n_channels)
        self.gate = nn.Parameter(torch.zeros(n_channels if recipe.gate == "channel" else 1))
        self.enabled = True

    def fuse(self, _: nn.Module, args: tuple[Tensor], output: dict[str, Any]) -> dict[str, Any] | None:
        """Runs as the forward hook of SAM2's image encoder, once a region; returns the encoder's changed output."""
        if not self.enabled:
            return None
        images, embedding = args[0], output["backbone_fpn"][-1]
        # SAM2 has normalized the images for itself.
        mean, std = (images.new_tensor(value).view(1, 3, 1, 1) for value in (IMAGENET_MEAN, IMAGENET_STD))
        features = self.encoder(images * std + mean)
        update = self.gate.view(1, -1, 1, 1) * self.mixer(embedding, features)
        fused = embedding + update.to(embedding.dtype)
        return {**output, "vision_features": fused, "backbone_fpn": [*output["backbone_fpn"][:-1], fused]}

    def describe(self) -> dict[str, object]:
        """Returns the fields by which fusions differ whose weights have the same names."""
        return {name: getattr(self.recipe, name) for name in ("kind", "gate", "encoder", "train_encoder")}

    def list_weights(self) -> dict[str, nn.Parameter]:
        """Returns the trained weights by name: never a frozen encoder's."""
        return {name: value for name, value in self.named_parameters() if value.requires_grad}


def add_fusion(model: SAM2Base, recipe: FusionRecipe, weights: Mapping[str, str], seed: int) -> None:
    """Adds the recipe's encoder to the model, in place; does nothing if the recipe has none.

    Call it after :func:`trainables.adapters.adapted_model.attach_adapters`, which freezes all parameters.

    Args:
        model: The model, adapters and all.
        recipe: Kind of fusion and name of the encoder.
        weights: Name of an encoder -> its weights' file or hub id; one that is not named has random weights.
        seed: Of the mixer's first weights; PyTorch's global generator is left as it was.

    Raises:
        CheckpointError: If the encoder is unknown, or its weights are missing or do not fit.
    """
    if recipe.kind == "none":
        return
    encoder = load_encoder(recipe.encoder, weights.get(recipe.encoder), recipe.train_encoder)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reseed the GPUs as well
        fusion = PathologyFusion(recipe, encoder, model.hidden_dim)
    model.add_module(_ATTRIBUTE, fusion.to(model.device))
    model.image_encoder.register_forward_hook(fusion.fuse)


def find_fusion(model: SAM2Base) -> PathologyFusion | None:
    """Returns the model's fusion, or None where it has none."""
    found = getattr(model, _ATTRIBUTE, None)
    assert found is None or isinstance(found, PathologyFusion)
    return found


def save_fusion(model: SAM2Base, folder: Path) -> None:
    """Writes ``fusion.json`` and ``fusion.safetensors``, a frozen encoder's weights as a fingerprint alone.

    Writes nothing if the model has no fusion.
    """
    fusion = find_fusion(model)
    if fusion is None:
        return
    content = {**fusion.describe(), "encoder_fingerprint": fusion.encoder.fingerprint}
    (folder / FUSION_FILE).write_text(json.dumps(content, indent=2))
    state = {name: value.detach().contiguous() for name, value in fusion.list_weights().items()}
    save_weights(state, folder / FUSION_WEIGHTS_FILE)


def read_fusion(model: SAM2Base, folder: Path) -> list[tuple[nn.Parameter, Tensor]]:
    """Returns the model's trained weights of a fusion, each with its value as :func:`save_fusion` wrote it.

    There are none without a fusion.

    Raises:
        CheckpointError: If only one of them has a fusion, or they differ in kind, names or shapes; if its files are
            damaged; or if the encoder began with other weights.
    """
    fusion, path = find_fusion(model), folder / FUSION_FILE
    if (fusion is not None) != path.is_file():
        raise refuse_other(folder, f"it has {'no' if fusion is not None else 'a'} fusion")
    if fusion is None:
        return []
    theirs = check_description(path, fusion.describe(), "fusion.").get("encoder_fingerprint")
    state, wanted = load_saved(folder / FUSION_WEIGHTS_FILE), fusion.list_weights()
    odd = set(state) ^ set(wanted) or {name for name, value in wanted.items() if state[name].shape != value.shape}
    if odd:
        what = f"{len(odd)} weights of the fusion differ in name or shape (first: {min(odd)})"
        raise refuse_other(folder / FUSION_WEIGHTS_FILE, what)
    encoder = fusion.encoder
    if theirs != encoder.fingerprint:
        what = f"was trained beside {encoder.name} with other weights: {theirs}, but got {encoder.fingerprint}"
        fix = f"pass the same weights by {OPTION} {encoder.name}=FILE (random ones depend on PyTorch's version)"
        raise CheckpointError.at(folder, what, fix)
    return [(value, state[name]) for name, value in wanted.items()]


def _flatten(image: Float[Tensor, "regions channels h w"]) -> Float[Tensor, "regions places channels"]:
    return image.flatten(2).transpose(1, 2)

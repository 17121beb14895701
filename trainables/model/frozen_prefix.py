"""The frozen blocks in front of the first that is trained: computed once a picture, then read from disk.

All trials of a node share what is read, in the folder of the decoded regions: it goes when that goes. A picture always
goes through these blocks alone, whether its features are read or computed: the same numbers come of both, and of a
search that was killed and resumed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from jaxtyping import Float
from sam2.modeling.backbones.hieradet import Hiera
from sam2.modeling.sam2_base import SAM2Base
from sam2.modeling.sam2_utils import DropPath
from torch import Tensor, nn

from trainables.model.feature_files import FeatureFiles
from trainables.model.forward import ImageFeatures, encode_images, normalize_images
from trainables.model.fusion import find_fusion

FOLDER = "features"
# Reading must be so many times faster than computing: what is read must once be computed and written.
_MARGIN = 2.0
_TOKENS = "tokens"


# Multiply-adds a second in an image encoder, and bytes a second of features that are read. CPU: measured on one core,
# see docs/performance.md. CUDA: reasoned for a data-center card, not measured: a small model is as fast as its features
# are read.
_SPEEDS = {"cpu": (20e9, 1e9), "cuda": (20e12, 3e9)}
_READ_S = 1e-3  # what it takes to read features, beside their bytes


class FrozenPrefix:
    """The first blocks of a model's image encoder, or all of it, with the features that are kept of them.

    Attributes:
        n_blocks: How many blocks of the trunk are frozen.
        is_whole: Whether all that follows them in the encoder is frozen too.
    """

    def __init__(self, model: SAM2Base, n_blocks: int, is_whole: bool, folder: Path) -> None:
        """Opens the features of this model's frozen weights in a folder that holds those of others too."""
        self.n_blocks, self.is_whole = n_blocks, is_whole
        self._files = FeatureFiles(folder / _name_set(model, n_blocks, is_whole))
        self._n_passed = self._n_read = 0

    def encode(self, model: SAM2Base, images: Float[Tensor, "regions 3 s s"], pictures: Sequence[str]) -> ImageFeatures:
        """Returns what ``encode_images`` returns, to rounding, with and without adapters switched off.

        ``pictures`` holds a name for each image that no other picture of the same regions has; it is empty for images
        that will hardly come again: they go through the whole encoder.
        """
        self._n_passed += len(images) * len(model.image_encoder.trunk.blocks)
        if not pictures:
            return encode_images(model, images)
        with torch.no_grad():
            parts = [self._find(model, image[None], name) for image, name in zip(images, pictures, strict=True)]
            joined = {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
        if self.is_whole:
            return ImageFeatures(joined["embedding"], (joined["high_res_0"], joined["high_res_1"]))
        with _answering(model.image_encoder.trunk, self._finish(model.image_encoder.trunk, joined)):
            return encode_images(model, images)

    def take_share(self) -> float:
        """Returns the share of the blocks that were read rather than computed since the last call, in [0, 1]."""
        share = self._n_read / self._n_passed if self._n_passed else 0.0
        self._n_passed = self._n_read = 0
        return share

    def _find(self, model: SAM2Base, image: Float[Tensor, "1 3 s s"], picture: str) -> dict[str, Tensor]:
        """Reads the features of a picture, or computes and writes them."""
        device = image.device
        is_mixed = torch.is_autocast_enabled(device.type)
        name = f"{picture}.{torch.get_autocast_dtype(device.type) if is_mixed else image.dtype}"
        if (found := self._files.read(name)) is not None:
            self._n_read += self.n_blocks
            return {key: value.to(device, non_blocking=True) for key, value in found.items()}
        computed = self._compute(model, image)
        self._files.write(name, computed)
        return computed

    def _compute(self, model: SAM2Base, image: Float[Tensor, "1 3 s s"]) -> dict[str, Tensor]:
        if self.is_whole:
            features = encode_images(model, image)
            return {
                "embedding": features.embedding,
                "high_res_0": features.high_res[0],
                "high_res_1": features.high_res[1],
            }
        trunk = model.image_encoder.trunk
        embedded = trunk.patch_embed(normalize_images(image))
        tokens, levels = _run_blocks(trunk, embedded + trunk._get_pos_embed(embedded.shape[1:3]), 0, self.n_blocks)
        inner = levels[:-1] if self.n_blocks - 1 in trunk.stage_ends else levels
        kept = {_TOKENS: tokens, **{f"level_{index}": level for index, level in enumerate(inner)}}
        # Channels first, as they lie in memory: what follows then rounds as in the whole encoder, read or computed.
        return {name: value.permute(0, 3, 1, 2).contiguous() for name, value in kept.items()}

    def _finish(self, trunk: Hiera, frozen: dict[str, Tensor]) -> list[Float[Tensor, "regions channels h w"]]:
        """Runs the blocks that follow; returns the trunk's outputs, of all stages."""
        levels = [frozen[f"level_{index}"] for index in range(len(frozen) - 1)]
        if self.n_blocks - 1 in trunk.stage_ends:
            levels.append(frozen[_TOKENS])
        _, others = _run_blocks(trunk, frozen[_TOKENS].permute(0, 2, 3, 1), self.n_blocks, len(trunk.blocks))
        return [*levels, *(level.permute(0, 3, 1, 2) for level in others)]


def find_prefix(model: SAM2Base, store_folder: Path, device: torch.device) -> FrozenPrefix | None:
    """Returns the frozen blocks of a model, adapters and all; None where there are none, or computing them is cheap.

    Frozen is what has no parameter that requires a gradient and draws nothing in training. Whether reading is faster
    than computing is estimated from the model and the kind of device: it is the same in every process.
    """
    encoder = model.image_encoder
    trunk = encoder.trunk
    if not all(_is_frozen(value) for value in (trunk.patch_embed, trunk.pos_embed, trunk.pos_embed_window)):
        return None
    states = [_is_frozen(block) for block in trunk.blocks]
    n_blocks = states.index(False) if False in states else len(states)
    decoder = model.sam_mask_decoder
    rest = (encoder.neck, decoder.conv_s0, decoder.conv_s1)
    is_whole = n_blocks == len(states) and all(map(_is_frozen, rest)) and find_fusion(model) is None
    if not n_blocks or not _pays(model, n_blocks, is_whole, device):
        return None
    return FrozenPrefix(model, n_blocks, is_whole, store_folder / FOLDER)


def encode_reusing(
    prefix: FrozenPrefix | None, model: SAM2Base, images: Float[Tensor, "regions 3 s s"], pictures: Sequence[str]
) -> ImageFeatures:
    """Runs the image encoder, with features read where the model has a frozen prefix; see FrozenPrefix.encode."""
    return encode_images(model, images) if prefix is None else prefix.encode(model, images, pictures)


def _run_blocks(trunk: Hiera, tokens: Tensor, start: int, stop: int) -> tuple[Tensor, list[Tensor]]:
    """Runs some blocks, as ``Hiera.forward`` of sam2 1.1.0; returns the last one's output and that of each stage."""
    levels = []
    for index in range(start, stop):
        tokens = trunk.blocks[index](tokens)
        if index in trunk.stage_ends:
            levels.append(tokens)
    return tokens, levels


@contextmanager
def _answering(module: nn.Module, output: object) -> Iterator[None]:
    """Lets a module return this inside the block without running; hooks of the modules around it run as ever."""
    module.forward = lambda *_: output
    try:
        yield
    finally:
        del module.forward


def _is_frozen(part: nn.Module | nn.Parameter) -> bool:
    """Returns whether a part of the model is the same in every step: neither trained nor random in training."""
    if isinstance(part, nn.Parameter):
        return not part.requires_grad
    draws = (each for each in part.modules() if isinstance(each, nn.Dropout) and each.p or isinstance(each, DropPath))
    return next(draws, None) is None and not any(value.requires_grad for value in part.parameters())


def _list_frozen(model: SAM2Base, n_blocks: int, is_whole: bool) -> Iterator[tuple[str, Tensor]]:
    """Yields the weights that the features depend on, by name."""
    state = model.state_dict()
    trunk = "image_encoder.trunk"
    starts = [f"{trunk}.patch_embed.", f"{trunk}.pos_embed", *(f"{trunk}.blocks.{index}." for index in range(n_blocks))]
    if is_whole:
        starts += ["image_encoder.neck.", "sam_mask_decoder.conv_s0.", "sam_mask_decoder.conv_s1.", "no_mem_embed"]
    return ((name, value) for name, value in state.items() if name.startswith(tuple(starts)))


def _name_set(model: SAM2Base, n_blocks: int, is_whole: bool) -> str:
    """Names what the features depend on beside the picture: weights, and what rounding depends on."""
    device = model.device
    machine = torch.cuda.get_device_name(device) if device.type == "cuda" else torch.backends.cpu.get_cpu_capability()
    n_threads = torch.get_num_threads() if device.type == "cpu" else 0
    around = (torch.__version__, device.type, machine, n_threads, model.image_size, n_blocks, is_whole)
    digest = hashlib.blake2b(repr(around).encode(), digest_size=12)
    for name, value in _list_frozen(model, n_blocks, is_whole):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _pays(model: SAM2Base, n_blocks: int, is_whole: bool, device: torch.device) -> bool:
    """Estimates whether features of a picture are read so much faster than computed that they are worth their room."""
    trunk, decoder, largest = model.image_encoder.trunk, model.sam_mask_decoder, model.image_size // 4
    # Of the map of tokens that each block returns.
    sides = [largest >> sum(end < index for end in trunk.stage_ends) for index in range(n_blocks)]
    # Each weight once a token, without attention's own.
    n_macs = sum(
        sum(value.numel() for value in block.parameters()) * side**2
        for block, side in zip(trunk.blocks, sides, strict=False)
    )
    if is_whole:
        kept = [
            (model.hidden_dim, largest // 4),
            (decoder.conv_s0.out_channels, largest),
            (decoder.conv_s1.out_channels, largest // 2),
        ]
    else:
        ends = [*(end for end in trunk.stage_ends if end < n_blocks - 1), n_blocks - 1]
        kept = [(trunk.blocks[end].dim_out, sides[end]) for end in ends]
    n_values = sum(channels * side**2 for channels, side in kept)
    macs_per_s, bytes_per_s = _SPEEDS.get(device.type, _SPEEDS["cuda"])
    read_s = _READ_S + n_values * (4 if device.type == "cpu" else 2) / bytes_per_s
    return bool(n_macs / macs_per_s >= _MARGIN * read_s)

"""Checkpoints of the first SAM and of MedSAM, read off a file: its weights tell the size, nothing in it can run code.

The network is the package ``segment-anything``'s (Kirillov et al. 2023, arXiv 2304.02643), an optional dependency.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from trainables.errors import CheckpointError, Finding

if TYPE_CHECKING:
    from segment_anything.modeling import Sam
    from torch import Tensor, nn

    from trainables.protocol.spec import Protocol


PACKAGE = "segment_anything"
SAM_MED2D_NOTE = (
    "SAM-Med2D (arXiv 2308.16184) cannot be scored: the adapter layers in its image encoder are in no package that "
    "is kept up, only in its repository."
)
# What stock SAM's prompt encoder and mask decoder are made with, at every size; weights do not tell the heads.
_EMBEDDING, _MASK_CHANNELS, _DECODER_DEPTH, _DECODER_HEADS, _DECODER_MLP = 256, 16, 2, 8, 2048
_DEFAULT_WINDOW = 14
_SIZE_NAMES = {(768, 12): "ViT-B", (1024, 24): "ViT-L", (1280, 32): "ViT-H"}


@dataclass(frozen=True)
class Sam1Style:
    """How checkpoints of one origin were trained, and so want to be asked.

    Attributes:
        name: What a user calls it.
        stretches: The image is stretched to a square and its values to [0, 1]; else its longer side is fitted,
            the rest padded, and colors are normalized by ImageNet's mean and deviation.
        single_mask: Trained to give one mask: that one is scored also where the protocol lets a model that
            offers three choose among them.
        boxes_alone: Trained with boxes and nothing else.
    """

    name: str
    stretches: bool
    single_mask: bool
    boxes_alone: bool

    def list_caveats(self, protocol: Protocol) -> list[str]:
        """Returns what a reader of scores under a protocol must know."""
        caveats = []
        if self.single_mask and protocol.multimask:
            caveats.append(
                f"{self.name} was trained to give one mask, and that one is scored; SAM2 offers three here, and the "
                "one it holds best is scored"
            )
        prompt = protocol.prompt
        if self.boxes_alone and (prompt.centroid or prompt.n_positive or prompt.n_negative or not prompt.box):
            caveats.append(f"{self.name} was trained with boxes alone, and this protocol gives points")
        return caveats


STYLES = {
    style.name: style
    for style in (
        Sam1Style("sam", stretches=False, single_mask=False, boxes_alone=False),
        # Ma et al. 2024 (Nature Communications 15, 654), and the inference script of its repository.
        Sam1Style("medsam", stretches=True, single_mask=True, boxes_alone=True),
    )
}


@dataclass(frozen=True)
class Sam1Model:
    """A loaded checkpoint.

    Attributes:
        network: On the CPU when loaded, in evaluation mode, frozen.
        size: ``ViT-B``, ``ViT-L`` or ``ViT-H``; of others width and depth of the image encoder.
        style: How it wants to be asked.
    """

    network: Sam
    size: str
    style: Sam1Style


class _Architecture(NamedTuple):
    """An image encoder as its weights tell it."""

    width: int
    depth: int
    n_heads: int
    image_px: int
    patch_px: int
    window: int
    global_blocks: tuple[int, ...]


def load_sam1(path: Path, style: Sam1Style) -> Sam1Model:
    """Loads a checkpoint of the first SAM, of any size; the weights tell which. Nothing in the file can run code.

    Args:
        path: A ``.pth`` or ``.safetensors`` file: a state dictionary, bare or under the key ``model``.
        style: How it was trained, which its weights do not tell: MedSAM's have SAM's names and shapes.

    Raises:
        CheckpointError: If ``segment-anything`` is not installed, or the file is missing, truncated, damaged,
            holds code or values that are not finite, or is not a SAM's.
    """
    from trainables.files.weight_file import check_finite

    _require_package(path)
    state = _read_state(path)
    architecture = _read_architecture(state)
    if architecture is None:
        raise _refuse(path, *_explain_stranger(state))
    network = _build_network(architecture)
    misfits = _list_misfits(network, state)
    if misfits:
        if _has_adapters(state):
            raise _refuse(path, *_explain_stranger(state))
        what = f"does not fit {_name_size(architecture)} at {architecture.image_px} px: {', '.join(misfits)}"
        raise _refuse(path, what, "pass a checkpoint with stock SAM's parts, as SAM's and MedSAM's are")
    check_finite(state, path)
    network.load_state_dict(state)
    if style.stretches:  # the predictor normalizes by these: its images come in [0, 1] already
        network.pixel_mean.zero_()
        network.pixel_std.fill_(1)
    network.requires_grad_(False)
    return Sam1Model(network.eval(), _name_size(architecture), style)


def _require_package(path: Path) -> None:
    if importlib.util.find_spec(PACKAGE) is None:
        what = "needs the package segment-anything, which is not installed"
        raise _refuse(path, what, "pip install segment-anything, or this project with its extra: [medsam]")


def _read_state(path: Path) -> dict[str, Tensor]:
    from trainables.model.weights import read_weights

    try:
        return read_weights(path)
    except CheckpointError as error:
        if "state dictionary" not in str(error):
            raise
        what = "holds no state dictionary, bare or under the key 'model'"
        raise _refuse(path, what, "pass a checkpoint of SAM or MedSAM") from error


def _read_architecture(state: Mapping[str, Tensor]) -> _Architecture | None:
    """Reads the image encoder off its weights' shapes; None where they are not those of a SAM."""
    try:
        width, _, patch_px, _ = state["image_encoder.patch_embed.proj.weight"].shape
        _, grid, _, _ = state["image_encoder.pos_embed"].shape
        prefix, suffix = "image_encoder.blocks.", ".attn.rel_pos_h"
        depth = len({name.split(".")[2] for name in state if name.startswith(prefix)})
        tables = [state[f"{prefix}{block}{suffix}"].shape for block in range(depth)]
        # Relative positions of a window of n span 2 n - 1; a block of the grid's own span looks everywhere.
        spans = [(int(table[0]) + 1) // 2 for table in tables]
        windows = {span for span in spans if span != grid}
        head_width = int(tables[0][1])
    except (KeyError, ValueError, IndexError):
        return None
    if not head_width or width % head_width or len(windows) > 1 or not grid or not patch_px:
        return None
    everywhere = tuple(block for block, span in enumerate(spans) if span == grid)
    window = windows.pop() if windows else _DEFAULT_WINDOW
    return _Architecture(width, depth, width // head_width, grid * patch_px, patch_px, window, everywhere)


def _build_network(architecture: _Architecture) -> Sam:
    """Builds the network with random weights from the package's own parts.

    Its builders know three sizes, at 1024 px; fine-tunes at other sizes have the same parts.
    """
    from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
    from torch import nn

    side, patch = architecture.image_px, architecture.patch_px
    encoder = ImageEncoderViT(
        img_size=side,
        patch_size=patch,
        embed_dim=architecture.width,
        depth=architecture.depth,
        num_heads=architecture.n_heads,
        out_chans=_EMBEDDING,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=architecture.window,
        global_attn_indexes=architecture.global_blocks,
    )
    prompts = PromptEncoder(_EMBEDDING, (side // patch, side // patch), (side, side), _MASK_CHANNELS)
    transformer = TwoWayTransformer(_DECODER_DEPTH, _EMBEDDING, _DECODER_HEADS, _DECODER_MLP)
    return Sam(encoder, prompts, MaskDecoder(transformer_dim=_EMBEDDING, transformer=transformer))


def _list_misfits(network: nn.Module, state: Mapping[str, Tensor]) -> list[str]:
    wanted = network.state_dict()
    both = sorted(set(wanted) & set(state))
    found = {
        "weights missing": sorted(set(wanted) - set(state)),
        "weights unknown": sorted(set(state) - set(wanted)),
        "weights of another shape": [name for name in both if wanted[name].shape != state[name].shape],
    }
    return [f"{len(names)} {what} (first: {names[0]})" for what, names in found.items() if names]


def _explain_stranger(state: Mapping[str, Tensor]) -> tuple[str, str]:
    """Says what weights are that are not stock SAM's, and what to do."""
    from trainables.model.weights import guess_model

    if "image_encoder.trunk.patch_embed.proj.weight" in state:
        name = guess_model(state)
        model = f"--model {name} " if name else ""
        return f"is a SAM2 checkpoint ({name or 'of unknown size'})", f"search.run scores it: {model}--checkpoint FILE"
    if _has_adapters(state):
        return "has adapter layers in its image encoder, as SAM-Med2D has", SAM_MED2D_NOTE
    if any(name.startswith("vision_encoder.") for name in state):
        return "is a SAM as the package transformers saves it", "pass the original .pth file"
    if any(name.startswith("image_encoder.layers.") for name in state):
        return "is a SAM with a TinyViT encoder, as LiteMedSAM and MobileSAM are", "pass one with a ViT encoder"
    return f"is not a SAM ({len(state)} weights, first: {min(state)})", "pass a checkpoint of SAM or MedSAM"


def _has_adapters(state: Mapping[str, Tensor]) -> bool:
    return any(".Adapter." in name for name in state)


def _name_size(architecture: _Architecture) -> str:
    shape = architecture.width, architecture.depth
    return _SIZE_NAMES.get(shape, f"ViT of width {shape[0]} and depth {shape[1]}")


def _refuse(path: Path, what: str, fix: str) -> CheckpointError:
    return CheckpointError([Finding(str(path), what, fix)])

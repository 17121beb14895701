"""Loads checkpoints of the first SAM and of MedSAM; nothing in a file can run code.

The network is the package ``segment-anything``'s (Kirillov et al. 2023, arXiv 2304.02643), an optional dependency.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trainables.errors import CheckpointError

if TYPE_CHECKING:
    from segment_anything.modeling import Sam
    from torch import Tensor

    from trainables.protocol.spec import Protocol


PACKAGE = "segment_anything"
SAM_MED2D_NOTE = (
    "SAM-Med2D (arXiv 2308.16184) cannot be scored: the adapter layers in its image encoder are in no package that "
    "is kept up, only in its repository."
)
_POSITIONS = "image_encoder.pos_embed"
# Names in the package's ``sam_model_registry``, by the width of the image encoder.
SIZES = {768: "vit_b", 1024: "vit_l", 1280: "vit_h"}


@dataclass(frozen=True)
class Sam1Style:
    """How checkpoints of one origin were trained, and so must be prompted.

    Attributes:
        name: What a user calls it.
        stretches: The image is stretched to a square and its values to [0, 1]; else its longer side is fitted,
            the rest padded, and colors are normalized by ImageNet's mean and deviation.
        single_mask: Trained to give one mask, which is scored; the others choose among three.
        boxes_alone: Trained with boxes and nothing else.
    """

    name: str
    stretches: bool
    single_mask: bool
    boxes_alone: bool

    def list_caveats(self, protocol: Protocol) -> list[str]:
        """Returns what a reader of its scores under a protocol must know."""
        caveats = []
        if self.single_mask:
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
    """A loaded checkpoint, ``ViT-B``, ``ViT-L`` or ``ViT-H``: on the CPU, in evaluation mode, frozen.

    The notes say how its file was read, where that is not laid out as published ones are.
    """

    network: Sam
    size: str
    style: Sam1Style
    notes: tuple[str, ...] = ()


def load_sam1(path: Path, style: Sam1Style) -> Sam1Model:
    """Loads a checkpoint of the first SAM in one of its three published sizes, which follows from the weights.

    The file holds a state dictionary, bare or under the key ``model``. Its weights do not show the style: MedSAM's have
    SAM's names and shapes.

    Raises:
        CheckpointError: If ``segment-anything`` is not installed, or the file is missing, truncated or damaged, holds
            code or values that are not finite, or is not a SAM's.
    """
    from trainables.files.weight_file import check_finite
    from trainables.model.weight_names import take_off_prefix
    from trainables.model.weights import list_misfits, read_weights

    if importlib.util.find_spec(PACKAGE) is None:
        what = "needs the package segment-anything, which is not installed"
        raise CheckpointError.at(path, what, "pip install segment-anything, or this project with its extra: [medsam]")
    from segment_anything import sam_model_registry

    notes: list[str] = []
    state = read_weights(path, notes)
    state = take_off_prefix(state, _POSITIONS, path, notes) or state
    position = state.get(_POSITIONS)  # (1, rows, columns, width)
    name = SIZES.get(position.shape[-1]) if position is not None and position.ndim == 4 else None
    if name is None or _has_adapters(state):
        raise CheckpointError.at(path, *_explain_stranger(state))
    size = f"ViT-{name[-1].upper()}"
    network = sam_model_registry[name]()
    misfits = list_misfits(network, state)
    if misfits:
        what = f"does not fit {size} at {network.image_encoder.img_size} px: {', '.join(misfits)}"
        raise CheckpointError.at(
            path, what, "pass a checkpoint with stock SAM's parts and image size, as SAM's and MedSAM's are"
        )
    check_finite(state, path)
    network.load_state_dict(state)
    if style.stretches:  # SamPredictor normalizes by these, but these images are in [0, 1] already
        network.pixel_mean.zero_()
        network.pixel_std.fill_(1)
    network.requires_grad_(False)
    return Sam1Model(network.eval(), size, style, tuple(notes))


def _explain_stranger(state: Mapping[str, Tensor]) -> tuple[str, str]:
    """Returns what weights are that are not stock SAM's, and what to do."""
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

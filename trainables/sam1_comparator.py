"""SAM and MedSAM as comparators: checkpoints of the first SAM, scored as SAM2 is scored here.

The network is the package ``segment-anything``'s (Kirillov et al. 2023, arXiv 2304.02643), an optional dependency.
Prompts, clean-up, scored pixels and test-time augmentation are the protocol's; what belongs to a model stays the
model's: its image size, how it wants pixels prepared, and whether it offers three masks or one. Images are read
from the files, not from the store, which has been resized for SAM2.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.checkpoint import guess_model, read_weights
from trainables.components import BoolMask
from trainables.errors import CheckpointError, Finding
from trainables.evaluate import EvaluationSet, RegionPlan, Scores, collect_scores
from trainables.prompts import BOX_TOP_LEFT, Prompt
from trainables.protocol import Protocol, clean_mask
from trainables.tta import average_views, restore_maps, transform_maps, transform_pair, transform_prompt

if TYPE_CHECKING:
    from segment_anything import SamPredictor
    from segment_anything.modeling import Sam

PACKAGE = "segment_anything"
SAM_MED2D_NOTE = (
    "SAM-Med2D (arXiv 2308.16184) cannot be scored: the adapter layers in its image encoder are in no package that "
    "is kept up, only in its repository; its FT-SAM, 256 px without adapters, can."
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
        CheckpointError: If ``segment-anything`` is not installed, or the file is missing, truncated, holds code,
            or is not a SAM's.
    """
    _require_package(path)
    state = _read_state(path)
    architecture = _read_architecture(state)
    if architecture is None:
        raise _refuse(path, *_explain_stranger(state))
    network = _build_network(architecture)
    misfits = _list_misfits(network, state)
    if misfits:
        known = _explain_stranger(state) if any("Adapter" in name for name in state) else None
        what = f"does not fit {_name_size(architecture)} at {architecture.image_px} px: {', '.join(misfits)}"
        raise _refuse(path, *(known or (what, "pass a checkpoint with stock SAM's parts, as SAM's and MedSAM's are")))
    network.load_state_dict(state)
    if style.stretches:  # the predictor normalizes by these: its images come in [0, 1] already
        network.pixel_mean.zero_()
        network.pixel_std.fill_(1)
    network.requires_grad_(False)
    return Sam1Model(network.eval(), _name_size(architecture), style)


def score_sam1(
    model: Sam1Model, regions: EvaluationSet, read_image: Callable[[str], np.ndarray], device: torch.device
) -> Scores:
    """Scores a model as :func:`trainables.evaluate.evaluate` scores SAM2; see :func:`predict_sam1`."""
    return collect_scores(regions, predict_sam1(model, regions, read_image, device))


def predict_sam1(
    model: Sam1Model, regions: EvaluationSet, read_image: Callable[[str], np.ndarray], device: torch.device
) -> Iterator[tuple[RegionPlan, list[BoolMask]]]:
    """Yields what :func:`trainables.evaluate.predict_masks` does, for the same plans and prompts.

    In full precision, as published. Each region is encoded once under each view of the protocol's test-time
    augmentation.

    Args:
        model: Is moved to the device.
        regions: Regions and prompts.
        read_image: Gives a region's own RGB pixels, uint8, by its name.
        device: Where to compute.
    """
    from segment_anything import SamPredictor

    protocol, style = regions.protocol, model.style
    network = model.network.to(device)
    multimask = protocol.multimask and not style.single_mask
    predictors = {view: SamPredictor(network) for view in protocol.tta}
    for plan in regions.plans:
        size = regions.size(plan.index)
        image = read_image(regions.store.names[plan.index])
        for view, predictor in predictors.items():
            _set_image(predictor, image, size, view, style)
        united = np.zeros((len(plan.pairs), *size), bool)
        for item in plan.objects:

            def predict(view: str, prompt: Prompt = item.prompt) -> tuple[Tensor, Tensor]:
                seen = transform_prompt(prompt, size, view)  # noqa: B023 (called before the loop goes on)
                logits, iou = predict_prompt(predictors[view], seen, multimask)
                return restore_maps(logits, view), iou

            logits, iou = average_views(predictors, predict)
            united[item.pair] |= (logits[int(iou.argmax())] > protocol.threshold).cpu().numpy()
        yield plan, [clean_mask(mask, protocol) for mask in united]


def predict_prompt(
    predictor: SamPredictor, prompt: Prompt, multimask: bool
) -> tuple[Float[Tensor, "masks h w"], Float[Tensor, " masks"]]:
    """Returns logits, at the size that is scored, and predicted IoU of one prompt in pixels of that size."""
    # Not by the predictor's own scaling: the size that is scored need not have the shape of the image.
    (height, width), (seen_height, seen_width) = predictor.original_size, predictor.input_size
    scale = np.array([seen_width / width, seen_height / height])
    points = torch.as_tensor(prompt.points * scale, dtype=torch.float32, device=predictor.device)
    labels = torch.as_tensor(prompt.labels, dtype=torch.int32, device=predictor.device)
    boxes = None
    if prompt.labels[0] == BOX_TOP_LEFT:
        boxes, points, labels = points[:2].reshape(1, 4), points[2:], labels[2:]
    logits, iou, _ = predictor.predict_torch(
        points[None] if len(points) else None,
        labels[None] if len(points) else None,
        boxes,
        multimask_output=multimask,
        return_logits=True,
    )
    return logits[0], iou[0]


def stretch_image(image: UInt8[np.ndarray, "h w 3"], side: int) -> Float[Tensor, "1 3 side side"]:
    """Prepares an image for MedSAM: a square by bicubic interpolation, whole levels, their range brought to [0, 1].

    MedSAM's script resizes by scikit-image; this is PyTorch's bicubic with antialiasing, close to it but not equal.
    """
    pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float()
    resized = F.interpolate(pixels, (side, side), mode="bicubic", align_corners=False, antialias=True)
    levels = resized.clamp(0, 255).floor()
    low, high = levels.min(), levels.max()
    return (levels - low) / (high - low).clamp(min=1e-8)


def _set_image(
    predictor: SamPredictor, image: UInt8[np.ndarray, "h w 3"], size: tuple[int, int], view: str, style: Sam1Style
) -> None:
    """Gives the predictor an image as it is seen under a view."""
    seen = transform_maps(torch.from_numpy(image).permute(2, 0, 1), view).permute(1, 2, 0).contiguous().numpy()
    if style.stretches:
        side = predictor.model.image_encoder.img_size
        predictor.set_torch_image(stretch_image(seen, side).to(predictor.device), seen.shape[:2])
    else:
        predictor.set_image(seen)
    # Prompts come, and masks go, at the size that is scored, which may not be the image's own.
    predictor.original_size = transform_pair(size, view)


def _require_package(path: Path) -> None:
    if importlib.util.find_spec(PACKAGE) is None:
        what = "needs the package segment-anything, which is not installed"
        raise _refuse(path, what, "pip install segment-anything, or this project with its extra: [medsam]")


def _read_state(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise _refuse(path, "no such file", "check the path")
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
    if "image_encoder.trunk.patch_embed.proj.weight" in state:
        name = guess_model(state)
        model = f"--model {name} " if name else ""
        return f"is a SAM2 checkpoint ({name or 'of unknown size'})", f"search.run scores it: {model}--checkpoint FILE"
    if any(".Adapter." in name for name in state):
        return "has adapter layers in its image encoder, as SAM-Med2D has", SAM_MED2D_NOTE
    if any(name.startswith("vision_encoder.") for name in state):
        return "is a SAM as the package transformers saves it", "pass the original .pth file"
    if any(name.startswith("image_encoder.layers.") for name in state):
        return "is a SAM with a TinyViT encoder, as LiteMedSAM and MobileSAM are", "pass one with a ViT encoder"
    return f"is not a SAM ({len(state)} weights, first: {min(state)})", "pass a checkpoint of SAM or MedSAM"


def _name_size(architecture: _Architecture) -> str:
    shape = architecture.width, architecture.depth
    return _SIZE_NAMES.get(shape, f"ViT of width {shape[0]} and depth {shape[1]}")


def _refuse(path: Path, what: str, fix: str) -> CheckpointError:
    return CheckpointError([Finding(str(path), what, fix)])

"""Scores checkpoints of the first SAM and of MedSAM as SAM2 is scored.

The protocol gives prompts, clean-up, scored pixels and test-time augmentation. The model keeps its image size, its
preprocessing, and whether it offers three masks or one. Images are read from their files, because the store holds them
resized for SAM2.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from trainables.evaluation.evaluation_set import EvaluationSet, RegionPlan
from trainables.evaluation.evaluator import collect_scores
from trainables.evaluation.sam1_weights import Sam1Model, Sam1Style
from trainables.evaluation.stock_predictor import PromptedModel, ReadImage, predict_prompt_by_prompt
from trainables.protocol.components import BoolMask
from trainables.protocol.prompts import BOX_TOP_LEFT, Prompt
from trainables.protocol.scores import Scores
from trainables.protocol.spec import ProtocolMismatch

if TYPE_CHECKING:
    from segment_anything import SamPredictor


def score_sam1(model: Sam1Model, regions: EvaluationSet, read_image: ReadImage, device: torch.device) -> Scores:
    """Scores a model as :func:`trainables.evaluation.evaluator.evaluate` scores SAM2; see :func:`predict_sam1`."""
    return collect_scores(regions, predict_sam1(model, regions, read_image, device))


def predict_sam1(
    model: Sam1Model, regions: EvaluationSet, read_image: ReadImage, device: torch.device
) -> Iterator[tuple[RegionPlan, list[BoolMask]]]:
    """Yields what :func:`trainables.evaluation.evaluator.predict_masks` does, for the same plans and prompts.

    The model is moved to the device. It computes in full precision, as published, and encodes each region once per
    view of the test-time augmentation; ``read_image`` returns its RGB pixels.

    Raises:
        ProtocolMismatch: If the protocol gives no prompts.
    """
    from segment_anything import SamPredictor

    protocol, style = regions.protocol, model.style
    if protocol.prompt.is_empty:
        raise ProtocolMismatch(
            f"{style.name} answers prompts, and protocol {protocol.name} [{protocol.id}] gives none: "
            "it cannot be scored under it"
        )
    network = model.network.to(device)

    def encode(image: UInt8[np.ndarray, "h w 3"]) -> SamPredictor:
        predictor = SamPredictor(network)
        if style.stretches:
            square = stretch_image(image, predictor.model.image_encoder.img_size)
            predictor.set_torch_image(square.to(predictor.device), image.shape[:2])
        else:
            predictor.set_image(image)
        return predictor

    prompted = PromptedModel(encode, lambda predictor, prompt, _: predict_prompt(predictor, prompt, style))
    return predict_prompt_by_prompt(prompted, regions, read_image)


def predict_prompt(
    predictor: SamPredictor, prompt: Prompt, style: Sam1Style
) -> tuple[Float[Tensor, "masks h w"], Float[Tensor, " masks"]]:
    """Returns logits and predicted IoU of one prompt, both in pixels of the image."""
    # The predictor's own scaling does not apply: the image may have been stretched.
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
        multimask_output=not style.single_mask,
        return_logits=True,
    )
    return logits[0], iou[0]


def stretch_image(image: UInt8[np.ndarray, "h w 3"], side: int) -> Float[Tensor, "1 3 side side"]:
    """Returns an image as MedSAM expects it: a square by bicubic interpolation, whole levels, stretched to [0, 1].

    MedSAM's script resizes by scikit-image; PyTorch's bicubic with antialiasing is close to it but not equal.
    """
    pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float()
    resized = F.interpolate(pixels, (side, side), mode="bicubic", align_corners=False, antialias=True)
    levels = (resized + 1e-3).clamp(0, 255).floor()  # truncates as the script does, but keeps 76.99999 at 77
    low, high = levels.min(), levels.max()
    return (levels - low) / (high - low).clamp(min=1e-8)

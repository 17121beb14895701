"""Names every pixel of a region by the class whose learned prompt gets the greatest logit."""

from collections.abc import Mapping

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from sam2.modeling.sam2_base import SAM2Base
from torch import Tensor

from trainables.model.class_prompts import decode_classes
from trainables.model.forward import ImageFeatures
from trainables.protocol.tta import average_views, restore_maps

Logits = Float[np.ndarray, "names h4 w4"]


def segment_classes(model: SAM2Base, features: Mapping[str, ImageFeatures], position: int) -> Logits:
    """Returns one region's logits of every class and background, upright, averaged over the views.

    Features are those of regions that were encoded together, by view; ``position`` is the region's among them.
    """

    def decode(view: str) -> tuple[Tensor, Tensor]:
        seen = features[view]
        one = slice(position, position + 1)
        alone = ImageFeatures(seen.embedding[one], (seen.high_res[0][one], seen.high_res[1][one]))
        outputs = decode_classes(model, alone)
        return restore_maps(outputs.logits[0].float(), view), outputs.objectness[0].float()

    with torch.no_grad():
        logits, _ = average_views(features, decode)
    found: np.ndarray = logits.cpu().numpy()
    return found


def name_pixels(logits: Logits, size: tuple[int, int]) -> UInt8[np.ndarray, "h w"]:
    """Returns, at a larger size (height, width), each pixel's index among at most 256 names; the first of equals.

    The logits are interpolated (bilinear, pixel centers kept), not the names.
    """
    assert len(logits) <= 256
    names = np.zeros(size, np.uint8)
    best: np.ndarray = np.full(size, -np.inf, np.float32)
    # One at a time: at full size the maps of all classes could fill the memory.
    for position, small in enumerate(logits):
        full = cv2.resize(small.astype(np.float32), (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
        above = full > best
        names[above] = position
        np.maximum(best, full, out=best)
    return names

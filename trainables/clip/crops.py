"""Crops the pixels of a mask for an image classifier."""

import cv2
import numpy as np
from jaxtyping import UInt8

from trainables.data.store_writer import SquareImage
from trainables.protocol.components import BoolMask, find_box

Crop = UInt8[np.ndarray, "side side 3"]

MARGIN = 0.05


def crop_region(
    image: SquareImage, mask: BoolMask, size: tuple[int, int], fill: tuple[float, float, float], margin: float = MARGIN
) -> Crop | None:
    """Returns a mask's bounding box, grown by a margin and then to a square, in the tissue's own proportions.

    It is a square because CLIP's preprocessing cuts the ends off anything longer. It shows only the mask's own pixels:
    next to a vessel or lymphocytes lies another class, whose texture would be named instead. None for an empty mask.

    Args:
        image: The region as stored: RGB in [0, 1], squeezed into a square.
        mask: The pixels to show; any size that covers the same region.
        size: Height and width of the region, for its proportions.
        fill: Color of hidden pixels, RGB in [0, 1]; the classifier's mean color becomes 0 in its input.
        margin: Share of the box's longer side that is added on each side.
    """
    if not mask.any():
        return None
    height, width = _fit(size, image.shape[-1])
    tissue = cv2.resize(image.transpose(1, 2, 0), (width, height), interpolation=cv2.INTER_AREA)
    shown = _resize_mask(mask, height, width)
    color = np.asarray(fill, np.float32)
    tissue[~shown] = color
    return _cut_square(tissue, shown, color, margin)


def _fit(size: tuple[int, int], longest: int) -> tuple[int, int]:
    """Returns height and width scaled so that the longer one is the stored image's side."""
    scale = longest / max(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _resize_mask(mask: BoolMask, height: int, width: int) -> BoolMask:
    """Resizes a mask; if it covers half of no pixel, every pixel that it touches is kept."""
    covered = cv2.resize(mask.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
    resized: BoolMask = covered >= 0.5
    return resized if resized.any() else covered > 0


def _cut_square(
    tissue: np.ndarray, shown: BoolMask, color: np.ndarray, margin: float
) -> UInt8[np.ndarray, "side side 3"]:
    x_min, y_min, x_max, y_max = find_box(shown)
    longest = max(x_max - x_min, y_max - y_min) + 1
    side = longest + 2 * round(margin * longest)
    top, left = (y_min + y_max + 1 - side) // 2, (x_min + x_max + 1 - side) // 2
    square = np.full((side, side, 3), color, np.float32)  # beyond the region's edge there is no tissue
    height, width = shown.shape
    rows, columns = slice(max(0, top), min(height, top + side)), slice(max(0, left), min(width, left + side))
    square[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = tissue[rows, columns]
    return (square * 255).round().clip(0, 255).astype(np.uint8)

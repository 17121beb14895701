"""Connected components and bounding boxes of a class's mask."""

import cv2
import numpy as np
from jaxtyping import Bool

BoolMask = Bool[np.ndarray, "h w"]


def list_components(mask: BoolMask, min_area_px: int = 1) -> list[BoolMask]:
    """Splits a mask into its 8-connected components of at least so many pixels, the largest first."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    areas = stats[1:count, cv2.CC_STAT_AREA]
    order = np.argsort(-areas, kind="stable")
    return [labels == index + 1 for index in order if areas[index] >= min_area_px]


def keep_largest_component(mask: BoolMask) -> BoolMask:
    """Keeps the component with most pixels (the first in scan order of equals); an empty mask stays empty."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    if count <= 1:
        return np.zeros_like(mask)
    kept: BoolMask = labels == 1 + int(np.argmax(stats[1:count, cv2.CC_STAT_AREA]))
    return kept


def find_box(mask: BoolMask) -> tuple[int, int, int, int]:
    """Returns x_min, y_min, x_max, y_max of a mask's pixels, all inclusive.

    Raises:
        ValueError: If the mask is empty.
    """
    columns = np.flatnonzero(mask.any(axis=0))
    rows = np.flatnonzero(mask.any(axis=1))
    if not len(columns):
        raise ValueError("an empty mask has no bounding box")
    return int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1])


def fill_box(mask: BoolMask) -> BoolMask:
    """Returns the filled bounding box of a mask: a prediction without a model.

    Raises:
        ValueError: If the mask is empty.
    """
    x_min, y_min, x_max, y_max = find_box(mask)
    filled = np.zeros_like(mask)
    filled[y_min : y_max + 1, x_min : x_max + 1] = True
    return filled

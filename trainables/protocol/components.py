"""Connected components and bounding boxes of a class's mask."""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Shaped

BoolMask = Bool[np.ndarray, "h w"]

_STRIP_ROWS = 64


class Component(NamedTuple):
    """One object of a mask. It has no mask of its own: a region may show thousands, and they share one array.

    Attributes:
        labels: Which pixel belongs to which object.
        label: This object's.
        box: x_min, y_min, x_max, y_max of its pixels, all inclusive.
    """

    labels: Shaped[np.ndarray, "h w"]
    label: int
    box: tuple[int, int, int, int]

    @property
    def window(self) -> tuple[slice, slice]:
        """The rows and columns of the box, by which a mask is indexed."""
        x_min, y_min, x_max, y_max = self.box
        return slice(y_min, y_max + 1), slice(x_min, x_max + 1)

    def cut_out(self) -> Bool[np.ndarray, "rows columns"]:
        """Returns the object's pixels inside its box."""
        found: np.ndarray = self.labels[self.window] == self.label
        return found

    def to_mask(self) -> BoolMask:
        """Returns the object's pixels as a mask of the whole size."""
        return unite([self])


def take_whole(mask: BoolMask) -> Component:
    """Returns all pixels of a mask as one object.

    Raises:
        ValueError: If the mask is empty.
    """
    return Component(mask, True, find_box(mask))


def list_components(mask: BoolMask, min_area_px: int = 1) -> list[Component]:
    """Splits a mask into its 8-connected components of at least so many pixels, the largest first."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    found = []
    for index in np.argsort(-stats[1:count, cv2.CC_STAT_AREA], kind="stable").tolist():
        left, top, width, height, area = stats[index + 1].tolist()
        if area >= min_area_px:
            found.append(Component(labels, index + 1, (left, top, left + width - 1, top + height - 1)))
    return found


def unite(components: Sequence[Component]) -> BoolMask:
    """Returns the pixels of one or more objects of a mask."""
    mask = np.zeros(components[0].labels.shape, bool)
    for component in components:
        mask[component.window] |= component.cut_out()
    return mask


def fill_boxes(components: Sequence[Component]) -> BoolMask:
    """Returns the filled bounding boxes of one or more objects of a mask: a prediction without a model."""
    filled = np.zeros(components[0].labels.shape, bool)
    for component in components:
        filled[component.window] = True
    return filled


def keep_largest_component(mask: BoolMask) -> BoolMask:
    """Keeps the component with most pixels (the first in scan order of equals); an empty mask stays empty."""
    count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    if count <= 1:
        return np.zeros_like(mask)
    # OpenCV's own statistics take three times as long. In strips, which NumPy copies to 64 bits within a core's cache.
    areas = np.zeros(count, np.int64)
    for top in range(0, len(labels), _STRIP_ROWS):
        areas += np.bincount(labels[top : top + _STRIP_ROWS].ravel(), minlength=count)
    kept: BoolMask = labels == 1 + int(np.argmax(areas[1:]))
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

"""Overlap of two masks: pixel counts, which can be pooled, then Dice and IoU."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from trainables.protocol.components import BoolMask


class Overlap(NamedTuple):
    """Pixel counts of one predicted mask against one actual mask."""

    shared: int
    predicted: int
    actual: int

    def __add__(self, other: object) -> Overlap:
        """Pools two counts."""
        if not isinstance(other, Overlap):
            return NotImplemented
        return Overlap(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))

    @property
    def dice(self) -> float:
        """Dice coefficient in [0, 1]; 1 where both masks are empty."""
        total = self.predicted + self.actual
        return 2 * self.shared / total if total else 1.0

    @property
    def iou(self) -> float:
        """Intersection over union (Jaccard index) in [0, 1]; 1 where both masks are empty."""
        union = self.predicted + self.actual - self.shared
        return self.shared / union if union else 1.0


def count_overlap(predicted: BoolMask, actual: BoolMask, valid: BoolMask | None = None) -> Overlap:
    """Counts pixels; those outside ``valid`` belong to neither mask.

    Raises:
        ValueError: If the shapes differ.
    """
    if predicted.shape != actual.shape:
        raise ValueError(f"masks must have one shape, but got {predicted.shape} and {actual.shape}")
    if valid is not None:
        predicted, actual = predicted & valid, actual & valid
    return Overlap(
        int(np.count_nonzero(predicted & actual)), int(np.count_nonzero(predicted)), int(np.count_nonzero(actual))
    )

"""Cuts regions into tiles of one scale: a fixed grid, in which each tile answers for its own part of the region."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import cv2
import numpy as np

# A region whose sides are within this factor of a tile's is one tile as it is; beyond it the screen warns of shrinking.
SAME_SCALE = 1.5
MIN_SIDE_PX, MAX_SIDE_PX = 32, 20_000
MAX_OVERLAP = 0.75
_TEXT = re.compile(r"[0-9]{1,6}(,[0-9]*\.?[0-9]+){0,2}")

Pixels = TypeVar("Pixels", bound=np.ndarray)


class Window(NamedTuple):
    """A rectangle in a region's own pixels. Below and to the right it may leave the region, which is mirrored there."""

    top: int
    left: int
    height: int
    width: int

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.height, self.width

    @property
    def slices(self) -> tuple[slice, slice]:
        """The rows and columns, by which a region's array is indexed; without those beyond it."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)

    def clip_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Returns height and width of what lies inside a region of a height and width."""
        return min(self.height, size[0] - self.top), min(self.width, size[1] - self.left)

    def shift(self, outer: Window) -> Window:
        """Returns the same rectangle in pixels of a window that holds it."""
        return self._replace(top=self.top - outer.top, left=self.left - outer.left)


class Tile(NamedTuple):
    """A window that a model sees, and the core that it answers for; the cores of a region's tiles fill it once."""

    window: Window
    core: Window


@dataclass(frozen=True)
class Tiles:
    """How regions are cut.

    Attributes:
        side_px: Side of a tile in pixels, at the scale below; it becomes the model's square.
        um_per_px: Micrometres a pixel at which the side is meant; 0 for each region's own pixels.
        overlap: Least share of a tile's side that it has in common with its neighbor's.
    """

    side_px: int
    um_per_px: float = 0.0
    overlap: float = 0.25

    def __post_init__(self) -> None:
        if not MIN_SIDE_PX <= self.side_px <= MAX_SIDE_PX:
            raise ValueError(f"side_px must lie in {MIN_SIDE_PX}..{MAX_SIDE_PX}, but got {self.side_px}")
        if not (self.um_per_px == 0 or 0.01 <= self.um_per_px <= 100):
            raise ValueError(f"um_per_px must lie in 0.01..100, or be 0, but got {self.um_per_px:g}")
        if not 0 <= self.overlap <= MAX_OVERLAP:
            raise ValueError(f"overlap must lie in 0..{MAX_OVERLAP}, but got {self.overlap:g}")

    @staticmethod
    def parse(text: str) -> Tiles:
        """Reads ``SIDE_PX[,UM_PER_PX[,OVERLAP]]``, such as ``1024`` or ``1024,0.5,0.25``.

        Raises:
            ValueError: If the text is no such thing, or a number is out of its limits.
        """
        if not _TEXT.fullmatch(text):
            raise ValueError("no one to three numbers")
        side, *others = text.split(",")
        return Tiles(int(side), *map(float, others))

    def describe(self) -> str:
        """Returns a few words for screens."""
        scale = f" at {self.um_per_px:g} um a pixel" if self.um_per_px else ""
        return f"tiles of {self.side_px} px{scale}, overlap {self.overlap:g}"

    def find_side(self, um_per_px: float) -> int:
        """Returns a tile's side in the pixels of a region with so many micrometres a pixel."""
        return max(1, round(self.side_px * self.um_per_px / um_per_px)) if self.um_per_px else self.side_px

    def cut(self, size: tuple[int, int], um_per_px: float) -> list[Tile]:
        """Returns the tiles of a region of a height and width, row by row.

        A region of about a tile's size is one tile as it is. Else tiles are spread evenly from edge to edge; where a
        side is shorter than a tile, the tile leaves the region. Of an overlap each tile answers for its half.
        """
        side = self.find_side(um_per_px)
        if is_of_size(size, side):
            return [take_region(size)]
        rows, columns = (_place(length, side, self.overlap) for length in size)
        return [
            Tile(Window(top, left, side, side), Window(y, x, height, width))
            for top, y, height in rows
            for left, x, width in columns
        ]


def is_of_size(size: tuple[int, int], side: int) -> bool:
    """Says whether both sides of a region are within the factor ``SAME_SCALE`` of a tile's."""
    return all(side / SAME_SCALE <= length <= side * SAME_SCALE for length in size)


def take_region(size: tuple[int, int]) -> Tile:
    """Returns a region of a height and width as one tile."""
    window = Window(0, 0, *size)
    return Tile(window, window)


def spread_starts(length: int, side: int, overlap: float) -> list[int]:
    """Returns where tiles start that are spread evenly along an axis, the last to its end; ``[0]`` if one fills it.

    Neighbors share at least ``overlap`` of a side, in [0, 1).
    """
    n_steps = math.ceil(max(0, length - side) / max(1.0, side * (1 - overlap)))
    return [round(step * (length - side) / n_steps) for step in range(n_steps + 1)] if n_steps else [0]


def _place(length: int, side: int, overlap: float) -> list[tuple[int, int, int]]:
    """Returns, along one axis, where each tile starts, where its core starts, and the core's length."""
    starts = spread_starts(length, side, overlap)
    middles = [(before + side + after) // 2 for before, after in zip(starts, starts[1:], strict=False)]
    edges = [0, *middles, length]
    return [(start, low, high - low) for start, low, high in zip(starts, edges, edges[1:], strict=False)]


def cut_window(pixels: Pixels, window: Window) -> Pixels:
    """Returns a window of an image or a mask, [h, w, ...]; what lies beyond is the mirror image, as in training."""
    found = pixels[window.slices]
    below, right = window.height - found.shape[0], window.width - found.shape[1]
    if below or right:
        found = cv2.copyMakeBorder(np.ascontiguousarray(found), 0, below, 0, right, cv2.BORDER_REFLECT)
    return found  # type: ignore[return-value]

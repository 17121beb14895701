"""Draws the windows of a training epoch: anywhere in the regions, at any scale near the tiles', or around a class."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Int32

from trainables.recipe import SamplingRecipe
from trainables.tiles.grid import Window, is_of_size

Places = Int32[np.ndarray, " places"]  # positions in a region's flattened mask


@dataclass(frozen=True)
class WindowSampler:
    """The windows of an epoch; what is drawn depends on the position among them and the caller's generator alone.

    Attributes:
        sizes: Height and width of each training region.
        sides: Of a tile, in each region's own pixels.
        places: For each class and region some of the class's pixels; empty where the region does not show it.
        recipe: How many windows, how far their scale varies, and where they lie.
    """

    sizes: Sequence[tuple[int, int]]
    sides: Sequence[int]
    places: Sequence[Sequence[Places]]
    recipe: SamplingRecipe

    def __len__(self) -> int:
        return self.recipe.windows or count_windows(self.sizes, self.sides)

    def draw(self, position: int, rng: np.random.Generator) -> tuple[int, Window]:
        """Draws a window: the position of its region, and where it lies there.

        Regions are drawn by their area in tiles, in as many equal parts as there are windows (stratified sampling).
        Under ``balanced`` that share of the windows is drawn around a pixel of a class instead, each class and each
        region that shows it with equal chance; nnU-Net draws a third of its patches around foreground (Isensee et al.
        2021).
        """
        if self.recipe.kind == "balanced" and self._shown and rng.random() < self.recipe.strength:
            return self._draw_around_class(rng)
        part = (position + rng.random()) / len(self) * self._areas[-1]
        region = min(int(np.searchsorted(self._areas, part, side="right")), len(self.sizes) - 1)
        height, width = self._draw_size(region, rng)
        top, left = (
            int(rng.integers(max(0, length - side) + 1))
            for length, side in zip(self.sizes[region], (height, width), strict=True)
        )
        return region, Window(top, left, height, width)

    def _draw_around_class(self, rng: np.random.Generator) -> tuple[int, Window]:
        by_region = self._shown[rng.integers(len(self._shown))]
        region, places = by_region[rng.integers(len(by_region))]
        pixel = divmod(int(places[rng.integers(len(places))]), self.sizes[region][1])
        sides = self._draw_size(region, rng)
        starts = []
        for length, side, at in zip(self.sizes[region], sides, pixel, strict=True):
            last = max(0, length - side)
            starts.append(int(rng.integers(min(max(0, at - side + 1), last), min(at, last) + 1)))
        return region, Window(starts[0], starts[1], *sides)

    def _draw_size(self, region: int, rng: np.random.Generator) -> tuple[int, int]:
        """Returns a window's height and width; regions of about a tile's size are seen whole, as they are scored."""
        side = self.sides[region]
        height, width = self.sizes[region] if is_of_size(self.sizes[region], side) else (side, side)
        if not self.recipe.scale_jitter:
            return height, width
        reach = math.log1p(self.recipe.scale_jitter)
        factor = math.exp(rng.uniform(-reach, reach))
        return max(1, round(height * factor)), max(1, round(width * factor))

    @cached_property
    def _areas(self) -> np.ndarray:
        pairs = zip(self.sizes, self.sides, strict=True)
        return np.cumsum([height * width / side**2 for (height, width), side in pairs], dtype=np.float64)

    @cached_property
    def _shown(self) -> list[list[tuple[int, Places]]]:
        """For each class that any region shows, these regions with its places."""
        shown = [[(region, each) for region, each in enumerate(one) if len(each)] for one in self.places]
        return [one for one in shown if one]


def count_windows(sizes: Sequence[tuple[int, int]], sides: Sequence[int]) -> int:
    """Returns how many windows an epoch has by default: as many tiles as the regions' area holds."""
    pairs = zip(sizes, sides, strict=True)
    return sum(max(1, round(height * width / side**2)) for (height, width), side in pairs)

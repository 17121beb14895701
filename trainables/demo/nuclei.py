"""Cells of the synthetic tissue: where nuclei lie, what each kind looks like, and the fibers between them."""

import math

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Float64, UInt8

from trainables.demo.noise import draw_noise

SUBPIXEL_BITS = 3  # OpenCV takes coordinates in eighths of a pixel
LEVELS_PER_UNIT = 120.0  # gray levels of a layer for one unit of stain concentration


def place_points(
    rng: np.random.Generator, where: Bool[np.ndarray, "h w"], spacing_px: float, share: float
) -> Float64[np.ndarray, "n 2"]:
    """Scatters points (x, y) on a jittered hexagonal lattice: crowded, irregular, but apart.

    A share of the lattice's points is kept, of those that lie where they may; neighbors are ``spacing_px`` apart.
    """
    height, width = where.shape
    rows = np.arange(0, height, spacing_px * math.sqrt(3) / 2)
    columns = np.arange(0, width + spacing_px, spacing_px, dtype=np.float64)
    xs, ys = np.meshgrid(columns, rows)
    xs[1::2] += spacing_px / 2
    points = np.stack([xs.ravel(), ys.ravel()], 1) + rng.uniform(-0.33, 0.33, (xs.size, 2)) * spacing_px
    keep = rng.uniform(size=len(points)) < share
    column, row = np.floor(points).astype(int).T
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    keep &= inside
    keep[inside] &= where[row[inside], column[inside]]
    return np.asarray(points[keep])


def draw_fibers(rng: np.random.Generator, angle: Float32[np.ndarray, "side side"]) -> Float32[np.ndarray, "side side"]:
    """Draws wavy collagen: noise smeared along angles (line integral convolution, Cabral and Leedom 1993).

    The fibers have mean 0 and standard deviation 1.
    """
    side = angle.shape[0]
    noise = draw_noise(rng, side, 1.7) + 0.6 * draw_noise(rng, side, 4.0)
    grid: Float32[np.ndarray, "2 side side"] = np.indices(angle.shape, dtype=np.float32)
    dx, dy = np.cos(angle), np.sin(angle)
    total = noise.copy()
    for sign in (-2, 2):
        y, x = grid[0], grid[1]
        for _ in range(6):  # of 2 px, either way
            x = x + sign * cv2.remap(dx, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            y = y + sign * cv2.remap(dy, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            total += cv2.remap(noise, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    return np.asarray((total - total.mean()) / total.std(), np.float32)


class NucleusLayer:
    """A layer of hematoxylin, in gray levels, into which nuclei are drawn one over another."""

    def __init__(self, side_px: int) -> None:
        self.levels: UInt8[np.ndarray, "h w"] = np.zeros((side_px, side_px), np.uint8)

    def draw(self, x: float, y: float, axes: tuple[float, float], angle: float, amount: float) -> None:
        """Draws a filled ellipse: half axes in pixels, angle in radians, amount as stain concentration."""
        scale = 1 << SUBPIXEL_BITS
        cv2.ellipse(
            self.levels,
            (round(x * scale), round(y * scale)),
            (max(round(axes[0] * scale), 2), max(round(axes[1] * scale), 2)),
            math.degrees(angle),
            0,
            360,
            min(max(amount, 0) * LEVELS_PER_UNIT, 255),
            -1,
            cv2.LINE_AA,
            SUBPIXEL_BITS,
        )

    def smudge(self, blur_px: float) -> None:
        """Blurs what has been drawn so far."""
        self.levels = np.asarray(cv2.GaussianBlur(self.levels, (0, 0), blur_px), np.uint8)

    def amounts(self) -> Float32[np.ndarray, "h w"]:
        """Returns the concentrations."""
        return self.levels.astype(np.float32) / np.float32(LEVELS_PER_UNIT)

    def draw_tumor(self, rng: np.random.Generator, points: Float64[np.ndarray, "n 2"], size: float) -> None:
        """Draws large, pleomorphic nuclei: pale inside with a rim and nucleoli, some dark all over."""
        for x, y in points:
            radius = size * float(np.exp(rng.normal(0, 0.22)))
            axes = (radius, radius * float(rng.uniform(0.6, 0.95)))
            angle = float(rng.uniform(0, math.pi))
            amount = float(rng.uniform(0.5, 0.85))
            self.draw(x, y, axes, angle, amount)
            if rng.uniform() < 0.15:  # hyperchromatic
                self.draw(x, y, axes, angle, 1.6 * amount)
                continue
            inner = (max(axes[0] - 1.1, 0.6), max(axes[1] - 1.1, 0.6))
            self.draw(x, y, inner, angle, amount * float(rng.uniform(0.3, 0.7)))
            for dx, dy in rng.normal(0, 0.25 * radius, (int(rng.integers(1, 3)), 2)):
                self.draw(x + dx, y + dy, (0.9, 0.9), 0.0, 1.35 * amount)

    def draw_lymphocytes(self, rng: np.random.Generator, points: Float64[np.ndarray, "n 2"]) -> None:
        """Draws small, round, dark nuclei of one size."""
        for x, y in points:
            radius = float(rng.normal(2.9, 0.25))
            axes = (radius, radius * float(rng.uniform(0.85, 1)))
            self.draw(x, y, axes, float(rng.uniform(0, math.pi)), rng.uniform(0.9, 1.3))

    def draw_spindles(
        self, rng: np.random.Generator, points: Float64[np.ndarray, "n 2"], angle: Float32[np.ndarray, "h w"]
    ) -> None:
        """Draws thin nuclei that lie along a field of angles: fibroblasts, endothelium."""
        for x, y in points:
            along = float(angle[int(y), int(x)]) + float(rng.normal(0, 0.2))
            axes = (float(rng.uniform(3.5, 7)), float(rng.uniform(1.0, 1.9)))
            self.draw(x, y, axes, along, rng.uniform(0.6, 1.0))

    def draw_debris(self, rng: np.random.Generator, points: Float64[np.ndarray, "n 2"]) -> None:
        """Draws the dust of broken nuclei: dark crumbs of all sizes, in clusters."""
        for x, y in points:
            for dx, dy in rng.normal(0, 3, (int(rng.integers(1, 5)), 2)):
                radius = float(rng.uniform(0.5, 1.5))
                self.draw(x + dx, y + dy, (radius, radius), 0.0, rng.uniform(0.4, 1.1))

    def draw_ghosts(self, rng: np.random.Generator, points: Float64[np.ndarray, "n 2"]) -> None:
        """Draws the fading outlines of dead nuclei."""
        for x, y in points:
            radius = float(rng.uniform(3, 5.5))
            self.draw(x, y, (radius, 0.8 * radius), float(rng.uniform(0, math.pi)), rng.uniform(0.1, 0.28))

"""Smooth random fields: the synthetic tissue's ragged borders, textures and bent fibers."""

import math

import cv2
import numpy as np
from jaxtyping import Float32


def draw_noise(rng: np.random.Generator, side_px: int, scale_px: float) -> Float32[np.ndarray, "side side"]:
    """Draws a smooth Gaussian field with mean 0 and standard deviation 1, which changes over ``scale_px`` pixels.

    A scale of 1 is white noise.
    """
    n_knots = math.ceil(side_px / scale_px) + 3
    size = round(n_knots * scale_px)
    knots = rng.standard_normal((n_knots, n_knots), dtype=np.float32)
    whole = cv2.resize(knots, (size, size), interpolation=cv2.INTER_CUBIC)
    # A random corner, so that the knots of two fields of one scale do not coincide.
    y, x = rng.integers(0, size - side_px + 1, 2)
    field = whole[y : y + side_px, x : x + side_px]
    return np.asarray((field - field.mean()) / max(float(field.std()), 1e-6), np.float32)


def warp(
    field: Float32[np.ndarray, "side side"], dx: Float32[np.ndarray, "side side"], dy: Float32[np.ndarray, "side side"]
) -> Float32[np.ndarray, "side side"]:
    """Returns the field read at positions shifted by (dx, dy) pixels, mirrored at the border."""
    ys, xs = np.indices(field.shape, dtype=np.float32)
    moved = cv2.remap(field, xs + dx, ys + dy, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    return np.asarray(moved, np.float32)

"""Elastic warps by smooth random displacements."""

from functools import lru_cache
from typing import Any

import albumentations as A
import cv2
import numpy as np
from albumentations.core.type_definitions import Targets
from jaxtyping import Float32, Int16, UInt8, UInt16

# So many rows at once stay in a core's cache.
STRIP_ROWS = 64


class ElasticWarp(A.DualTransform):  # type: ignore[misc]  # albumentations has no types
    """Moves each pixel by a smooth random displacement, as :class:`albumentations.ElasticTransform` does.

    The displacements are Gaussian noise, smoothed by a Gaussian (Simard et al. 2003): here the noise is drawn on a
    coarse grid, and its smoothing is evaluated at each pixel, by two small matrix products. Their spread is the same
    at the borders as in the middle; albumentations' is several times as large there. Beyond the border lies the
    mirrored picture. Takes 8-bit pictures, and masks whose ids are moved and never blended.
    """

    _targets = (Targets.IMAGE, Targets.MASK)

    def __init__(self, sigma: float, spread: float, p: float = 0.5) -> None:
        """Takes the smoothing's and the displacements' standard deviation, as fractions of the longer side."""
        super().__init__(p=p)
        self.sigma, self.spread = sigma, spread

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Draws the displacements, and returns where each pixel comes from, in OpenCV's fixed-point form."""
        height, width = params["shape"][:2]
        side = max(height, width)
        down, across = smooth(height, self.sigma * side), smooth(width, self.sigma * side)
        noise = self.random_generator.standard_normal((2, down.shape[1], across.shape[1]), np.float32)
        from_x, from_y = self.spread * side * noise @ across.T
        places = np.empty((height, width, 2), np.int16), np.empty((height, width), np.uint16)
        nearest = np.empty((height, width, 2), np.int16)
        for top in range(0, height, STRIP_ROWS):
            rows = slice(top, top + STRIP_ROWS)
            x = down[rows] @ from_x + np.arange(width, dtype=np.float32)
            y = down[rows] @ from_y + np.arange(height, dtype=np.float32)[rows, None]
            cv2.convertMaps(x, y, cv2.CV_16SC2, places[0][rows], places[1][rows])
            # On its own: with fractions of a pixel, OpenCV's nearest pixel is the next one.
            cv2.convertMaps(x, y, cv2.CV_16SC2, nearest[rows], nninterpolation=True)
        return {"places": places, "nearest": nearest}

    def apply(
        self,
        img: UInt8[np.ndarray, "h w 3"],
        places: tuple[Int16[np.ndarray, "h w 2"], UInt16[np.ndarray, "h w"]],
        **params: Any,
    ) -> UInt8[np.ndarray, "h w 3"]:
        """Returns the warped picture."""
        return cv2.remap(img, *places, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)

    def apply_to_mask(
        self, mask: UInt8[np.ndarray, "h w"], nearest: Int16[np.ndarray, "h w 2"], **params: Any
    ) -> UInt8[np.ndarray, "h w"]:
        """Returns the mask, warped alike."""
        no_fractions = np.empty(0, np.uint16)
        return cv2.remap(mask, nearest, no_fractions, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REFLECT_101)


@lru_cache(maxsize=4)
def smooth(n_pixels: int, sigma_px: float) -> Float32[np.ndarray, "pixels nodes"]:
    """Returns each pixel's weights for noise at nodes one sigma apart, beyond the borders too.

    The weighted sum of normal noise has a variance of 1 at each pixel, and the correlation of smoothed white noise:
    exp(-(d / 2 sigma)^2) at distance d, but for 1 part in 10,000.
    """
    nodes = np.arange(-3, n_pixels / sigma_px + 3)
    weights: np.ndarray = np.exp(-((np.arange(n_pixels)[:, None] / sigma_px - nodes) ** 2) / 2)
    weights /= np.linalg.norm(weights, axis=1, keepdims=True)
    return weights.astype(np.float32)

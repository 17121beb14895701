"""Segments an image of any shape by class prompts, in overlapping tiles at the scale of training."""

import numpy as np
import torch
from jaxtyping import Float, UInt8
from sam2.modeling.sam2_base import SAM2Base

from trainables.data.store_writer import resize_image
from trainables.evaluation.evaluator import TILES_PER_PASS, autocast
from trainables.evaluation.semantic_masks import name_pixels, segment_classes
from trainables.model.class_prompts import find_class_prompts
from trainables.model.forward import encode_images
from trainables.protocol.tta import IDENTITY
from trainables.tiles.grid import Window, cut_window, spread_starts

# Least share of a tile that it has in common with its neighbor.
OVERLAP = 0.25
# Weight of a tile's rim relative to 1 in its middle; it decides where no neighbor overlaps.
_RIM_WEIGHT = 0.02


@torch.inference_mode()
def segment_image(
    model: SAM2Base, image: UInt8[np.ndarray, "h w 3"], tile_px: tuple[int, int], device: torch.device
) -> UInt8[np.ndarray, "h w"]:
    """Returns the position of each pixel's name among the model's class prompts, for an RGB image.

    The scale is that of training: an image of a tile's size (height, width) is resized to the model's square as
    training regions are, a larger one is cut into tiles, and a smaller one is padded by its mirror image. The model is
    on the device, in evaluation mode.
    """
    cell_side = model.image_size // 4  # of a tile's square of logits
    height, width = image.shape[:2]
    padded_size = max(height, tile_px[0]), max(width, tile_px[1])
    padded = cut_window(image, Window(0, 0, *padded_size))
    tops, lefts = (place_tiles(length, side, cell_side) for length, side in zip(padded_size, tile_px, strict=True))
    places = [(top, left) for top in tops for left in lefts]
    prompts, window = find_class_prompts(model), make_window(cell_side)
    assert prompts is not None
    # The weighted mean of overlapping tiles' logits, on one grid of cells.
    weights: np.ndarray = np.zeros((tops[-1] + cell_side, lefts[-1] + cell_side), np.float32)
    sums: np.ndarray = np.zeros((len(prompts.tokens), *weights.shape), np.float32)
    for start in range(0, len(places), TILES_PER_PASS):
        some = places[start : start + TILES_PER_PASS]
        tiles = [_cut_tile(padded, place, tile_px, cell_side) for place in some]
        squares = torch.from_numpy(np.stack([resize_image(tile, model.image_size) for tile in tiles]))
        with autocast(device):
            features = {IDENTITY: encode_images(model, squares.to(device))}
            for position, (top, left) in enumerate(some):
                rows, columns = slice(top, top + cell_side), slice(left, left + cell_side)
                sums[:, rows, columns] += segment_classes(model, features, position) * window
                weights[rows, columns] += window
    assert weights.all(), "every cell lies in a tile"
    return name_pixels(sums / weights, padded_size)[:height, :width]


def place_tiles(size_px: int, tile_px: int, cell_side: int) -> list[int]:
    """Returns where tiles start along one axis, in cells of their logits, so that all tiles lie on one grid.

    Neighbors share at least ``OVERLAP`` of a tile; the last tile ends where the image (at least as large) does, within
    a cell. A tile's side is ``tile_px`` pixels and ``cell_side`` cells.
    """
    last = int(np.round((size_px - tile_px) * cell_side / tile_px))
    return spread_starts(last + cell_side, cell_side, OVERLAP)


def _cut_tile(
    image: UInt8[np.ndarray, "h w 3"], place: tuple[int, int], tile_px: tuple[int, int], cell_side: int
) -> UInt8[np.ndarray, "tile_h tile_w 3"]:
    starts = [
        min(round(cell * tile / cell_side), side - tile)
        for cell, tile, side in zip(place, tile_px, image.shape[:2], strict=True)
    ]
    return image[starts[0] : starts[0] + tile_px[0], starts[1] : starts[1] + tile_px[1]]


def make_window(side: int) -> Float[np.ndarray, "side side"]:
    """Returns a tile's weights in (0, 1]: the product of two raised cosines that stay above 0."""
    phase = 2 * np.pi * (np.arange(side) + 0.5) / side
    ramp = _RIM_WEIGHT + (1 - _RIM_WEIGHT) * 0.5 * (1 - np.cos(phase))
    window: np.ndarray = np.outer(ramp, ramp).astype(np.float32)
    return window

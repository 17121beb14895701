"""Draws classes onto an image, each tinted and outlined in its own color, and a legend of the colors."""

from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import UInt8

from trainables.evaluation.overlay import COLORS

# Overlays of larger images are reduced: they are for viewing only.
MAX_SIDE_PX = 2048
_TINT = 0.3
_ROW_PX, _LEGEND_WIDTH_PX = 28, 320

Picture = UInt8[np.ndarray, "height width 3"]


def pick_colors(n_names: int) -> list[tuple[int, int, int] | None]:
    """Returns the RGB color of each class; None for background, the last name, which is left plain.

    Colors repeat after the seventh class.
    """
    return [*(COLORS[position % len(COLORS)] for position in range(n_names - 1)), None]


def draw_classes(image: UInt8[np.ndarray, "h w 3"], named: UInt8[np.ndarray, "h w"], background: int) -> Picture:
    """Returns the overlay of each pixel's position among the names, at most ``MAX_SIDE_PX`` on a side.

    Background, the last position, is left plain.
    """
    scale = min(1.0, MAX_SIDE_PX / max(named.shape))
    height, width = (max(1, round(side * scale)) for side in named.shape)
    picture: np.ndarray = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    small = cv2.resize(named, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
    for position, color in enumerate(pick_colors(background + 1)):
        where = small == position
        if color is None or not where.any():
            continue
        picture[where] = ((1 - _TINT) * picture[where] + _TINT * np.array(color)).astype(np.uint8)
        contours, _ = cv2.findContours(where.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(picture, contours, -1, color, 1, cv2.LINE_AA)
    return picture


def draw_legend(names: Sequence[str]) -> Picture:
    """Returns a picture with one row per name: its color and the name; background has an empty box."""
    legend = np.full((_ROW_PX * len(names), _LEGEND_WIDTH_PX, 3), 255, np.uint8)
    for row, (name, color) in enumerate(zip(names, pick_colors(len(names)), strict=True)):
        top = row * _ROW_PX
        corners = (6, top + 7), (20, top + 21)
        if color is not None:
            cv2.rectangle(legend, *corners, color, -1)
        cv2.rectangle(legend, *corners, (120, 120, 120), 1)
        place = (28, top + 19)
        cv2.putText(legend, name, place, cv2.FONT_HERSHEY_SIMPLEX, 0.48, (30, 30, 30), 1, cv2.LINE_AA)
    return legend

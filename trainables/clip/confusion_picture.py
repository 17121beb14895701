"""Draws a confusion matrix: a heat map with the count in each cell."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Int64, UInt8

Picture = UInt8[np.ndarray, "height width 3"]

_CELL_W, _CELL_H, _PAD, _TITLE_H = 96, 44, 10, 56
_INK, _PALE, _DEEP = (30, 30, 30), np.array([255, 255, 255.0]), np.array([8, 81, 156.0])
_FONT, _SCALE = cv2.FONT_HERSHEY_SIMPLEX, 0.45


def draw_confusion(
    counts: Int64[np.ndarray, "rows columns"], rows: Sequence[str], columns: Sequence[str], title: str
) -> Picture:
    """Returns an RGB picture; a cell is as deep as its share of its row, so that rare classes show as well.

    Args:
        counts: Items by actual class (rows) and given name (columns).
        rows: What the rows are called.
        columns: What the columns are called.
        title: One line above.
    """
    left = max(_measure(name) for name in rows) + 2 * _PAD
    cell_w = max(_CELL_W, max(_measure(name) for name in columns) + 2 * _PAD)
    width = max(left + cell_w * len(columns), _measure(title)) + 2 * _PAD
    picture = np.full((_TITLE_H + _CELL_H * len(rows) + _PAD, width, 3), 255, np.uint8)
    _write(picture, title, _PAD, 20, _INK)
    for column, name in enumerate(columns):
        _write(picture, name, left + cell_w * column + (cell_w - _measure(name)) // 2, _TITLE_H - 10, _INK)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    for row, name in enumerate(rows):
        top = _TITLE_H + _CELL_H * row
        _write(picture, name, _PAD, top + 27, _INK)
        for column in range(len(columns)):
            share, start = float(shares[row, column]), left + cell_w * column
            color = ((1 - share) * _PALE + share * _DEEP).round().tolist()
            cv2.rectangle(picture, (start, top), (start + cell_w - 2, top + _CELL_H - 2), color, -1)
            cv2.rectangle(picture, (start, top), (start + cell_w - 2, top + _CELL_H - 2), (215, 215, 215), 1)
            text = str(int(counts[row, column]))
            ink = (255, 255, 255) if share > 0.5 else _INK
            _write(picture, text, start + (cell_w - _measure(text)) // 2, top + 27, ink)
    return picture


def _measure(text: str) -> int:
    return int(cv2.getTextSize(text, _FONT, _SCALE, 1)[0][0])


def _write(picture: Picture, text: str, x: int, y: int, ink: tuple[int, int, int]) -> None:
    """Writes into a picture, in place."""
    cv2.putText(picture, text, (x, y), _FONT, _SCALE, ink, 1, cv2.LINE_AA)

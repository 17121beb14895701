"""Draws a confusion matrix: a heat map with the count in each cell."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int64, UInt8
from matplotlib import style
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


def draw_confusion(
    counts: Int64[np.ndarray, "rows columns"], rows: Sequence[str], columns: Sequence[str], title: str
) -> UInt8[np.ndarray, "height width 3"]:
    """Returns an RGB picture of item counts by actual class (rows) and given name (columns), with a line above.

    The color of a cell is its share of its row, so that rare classes show as well: scikit-learn's
    ``ConfusionMatrixDisplay`` colors by count, and wants as many rows as columns.
    """
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    with style.context({"text.parse_math": False}, after_reset=True):  # names may hold dollar signs
        figure = Figure(figsize=(2.5 + 0.9 * len(columns), 1.8 + 0.5 * len(rows)), layout="constrained")
        axes = figure.add_subplot()
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        axes.set_title(title, fontsize=10)
        axes.set_xticks(range(len(columns)), columns, rotation=30, ha="right")
        axes.set_yticks(range(len(rows)), rows)
        for (row, column), count in np.ndenumerate(counts):
            ink = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, str(count), ha="center", va="center", color=ink)
    canvas: Any = FigureCanvasAgg(figure)  # Matplotlib does not type it
    canvas.draw()
    picture: UInt8[np.ndarray, "height width 3"] = np.asarray(canvas.buffer_rgba())[..., :3].copy()
    return picture

"""The picture of a confusion matrix: colors of its cells, and names that would be formulas."""

import matplotlib
import numpy as np
import pytest

from trainables.clip.confusion_picture import draw_confusion


def count_pixels(picture: np.ndarray, share: float) -> int:
    color = np.array(matplotlib.colormaps["Blues"](share)[:3]) * 255
    return int((np.abs(picture - color) < 1.5).all(axis=-1).sum())


def test_a_cell_has_the_color_of_its_share_of_the_row() -> None:
    """A quarter of a rare class is painted like a quarter of a frequent one."""
    picture = draw_confusion(np.array([[30, 10], [3, 1], [0, 4]]), ["a", "b", "c"], ["a", "b"], "a title")
    assert picture.dtype == np.uint8 and picture.shape[2] == 3
    none, quarter, most, whole = (count_pixels(picture, share) for share in (0.0, 0.25, 0.75, 1.0))
    assert min(none, whole) > 1000
    assert quarter == pytest.approx(2 * none, rel=0.1) and most == pytest.approx(2 * whole, rel=0.1)


def test_names_are_never_formulas_and_the_same_counts_give_the_same_picture() -> None:
    before = dict(matplotlib.rcParams)
    counts, names = np.zeros((1, 2), np.int64), ["$x_{", "(empty)"]
    assert np.array_equal(draw_confusion(counts, names[:1], names, "$"), draw_confusion(counts, names[:1], names, "$"))
    assert dict(matplotlib.rcParams) == before

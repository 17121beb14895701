from collections.abc import Sequence

import numpy as np
import pytest

from trainables.protocol.background import pick_background_id, split_classes


@pytest.mark.parametrize(
    ("class_ids", "ignored", "free"),
    [((1, 2), (), 0), ((1, 2), (0,), 0), ((0, 1, 3), (), 2), ((0, 1), (2,), 3), (range(255), (), 255)],
)
def test_background_is_0_or_an_id_that_means_nothing_else(
    class_ids: Sequence[int], ignored: tuple[int, ...], free: int
) -> None:
    assert pick_background_id(class_ids, ignored) == free


@pytest.mark.parametrize("ignored", [None, 0])
def test_every_pixel_that_counts_has_one_name(ignored: int | None) -> None:
    mask = np.array([[1, 2, 0], [9, 1, 0]], np.uint8)
    valid = None if ignored is None else mask != ignored
    split = split_classes(mask, [2, 1], valid)
    counts = np.ones((2, 3), int) if valid is None else valid.astype(int)
    assert split.sum(axis=0).tolist() == counts.tolist()
    assert split[0].tolist() == (mask == 2).tolist()
    assert int(split[-1].sum()) == (3 if ignored is None else 1)

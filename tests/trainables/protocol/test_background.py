import numpy as np
import pytest

from trainables.protocol.background import name_background, pick_background_id, split_classes


@pytest.mark.parametrize(
    ("classes", "name", "free"),
    [
        ({1: "tumor", 2: "stroma"}, "background", 0),
        ({0: "tumor", 1: "stroma", 3: "fat"}, "background", 2),
        ({1: "background"}, "background (no class)", 0),
        ({each: str(each) for each in range(255)}, "background", 255),
    ],
)
def test_background_has_a_name_and_an_id_of_its_own(classes: dict[int, str], name: str, free: int) -> None:
    assert name_background(classes) == name
    assert pick_background_id(classes) == free


@pytest.mark.parametrize("ignored", [None, 0])
def test_every_pixel_that_counts_has_one_name(ignored: int | None) -> None:
    mask = np.array([[1, 2, 0], [9, 1, 0]], np.uint8)
    valid = None if ignored is None else mask != ignored
    split = split_classes(mask, [2, 1], valid)
    counts = np.ones((2, 3), int) if valid is None else valid.astype(int)
    assert split.sum(axis=0).tolist() == counts.tolist()
    assert split[0].tolist() == (mask == 2).tolist()
    assert int(split[-1].sum()) == (3 if ignored is None else 1)

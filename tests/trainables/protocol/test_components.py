import numpy as np
import pytest

from trainables.protocol.components import fill_box, find_box, keep_largest_component, list_components


def draw(*rows: str) -> np.ndarray:
    return np.array([[letter == "#" for letter in row] for row in rows])


TWO = draw("##...", "##...", "....#", "...#.")  # a block of 4, and 2 pixels that touch by a corner


def test_components_are_joined_by_corners_and_come_largest_first_then_in_scan_order() -> None:
    assert [int(part.sum()) for part in list_components(TWO)] == [4, 2]
    assert np.array_equal(np.logical_or.reduce(list_components(TWO)), TWO)
    assert np.array_equal(keep_largest_component(draw("#.#", "...")), draw("#..", "..."))


def test_components_below_the_least_area_are_left_out() -> None:
    assert [len(list_components(TWO, min_area_px)) for min_area_px in (1, 2, 3, 4, 5)] == [2, 2, 1, 1, 0]


def test_an_empty_mask_has_no_component_and_no_box() -> None:
    empty = np.zeros((3, 4), bool)
    assert list_components(empty) == []
    assert not keep_largest_component(empty).any()
    for function in (find_box, fill_box):
        with pytest.raises(ValueError, match="empty mask"):
            function(empty)


@pytest.mark.parametrize(
    ("mask", "box"),
    [
        (draw("....", ".##.", ".#.."), (1, 1, 2, 2)),
        (draw("#..#", "....", "...."), (0, 0, 3, 0)),
        (draw("....", "....", "...#"), (3, 2, 3, 2)),
    ],
)
def test_a_box_is_inclusive_and_its_filling_the_smallest(mask: np.ndarray, box: tuple[int, int, int, int]) -> None:
    assert find_box(mask) == box
    filled = fill_box(mask)
    assert find_box(filled) == box and filled.sum() == (box[2] - box[0] + 1) * (box[3] - box[1] + 1)
    assert filled[mask].all()

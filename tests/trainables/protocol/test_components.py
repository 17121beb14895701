import numpy as np
import pytest

from trainables.protocol.components import (
    fill_boxes,
    find_box,
    keep_largest_component,
    list_components,
    take_whole,
    unite,
)


def draw(*rows: str) -> np.ndarray:
    return np.array([[letter == "#" for letter in row] for row in rows])


TWO = draw("##...", "##...", "....#", "...#.")  # a block of 4, and 2 pixels that touch by a corner


def test_components_are_joined_by_corners_and_come_largest_first_then_in_scan_order() -> None:
    block, pair = list_components(TWO)
    assert np.array_equal(block.to_mask(), draw("##...", "##...", ".....", "....."))
    assert np.array_equal(pair.to_mask(), draw(".....", ".....", "....#", "...#."))
    assert np.array_equal(unite([block, pair]), TWO)
    assert block.labels is pair.labels  # one array for all
    assert np.array_equal(keep_largest_component(draw("#.#", "...")), draw("#..", "..."))


def test_the_largest_component_counts_all_its_rows() -> None:
    mask = np.random.default_rng(0).random((300, 90)) < 0.3
    mask[20:280, 40] = True  # crosses the whole picture
    largest = list_components(mask)[0]
    assert largest.box[1] <= 20 and largest.box[3] >= 279
    assert np.array_equal(keep_largest_component(mask), largest.to_mask())


def test_an_object_is_cut_out_of_its_box_without_what_else_lies_there() -> None:
    ring, speck = list_components(draw(".#####", ".#...#", ".#.#.#", ".#...#", ".#####"))
    assert ring.box == (1, 0, 5, 4) and speck.box == (3, 2, 3, 2)
    assert np.array_equal(ring.cut_out(), draw("#####", "#...#", "#...#", "#...#", "#####"))
    assert fill_boxes([ring, speck]).sum() == 25 and fill_boxes([speck]).sum() == 1


def test_components_below_the_least_area_are_left_out() -> None:
    assert [len(list_components(TWO, min_area_px)) for min_area_px in (1, 2, 3, 4, 5)] == [2, 2, 1, 1, 0]


def test_an_empty_mask_has_no_component_and_no_box() -> None:
    empty = np.zeros((3, 4), bool)
    assert list_components(empty) == []
    assert not keep_largest_component(empty).any()
    with pytest.raises(ValueError, match="empty mask"):
        take_whole(empty)


@pytest.mark.parametrize(
    ("mask", "box"),
    [
        (draw("....", ".##.", ".#.."), (1, 1, 2, 2)),
        (draw("#..#", "....", "...."), (0, 0, 3, 0)),
        (draw("....", "....", "...#"), (3, 2, 3, 2)),
    ],
)
def test_a_box_is_inclusive_and_its_filling_the_smallest(mask: np.ndarray, box: tuple[int, int, int, int]) -> None:
    whole = take_whole(mask)
    assert whole.box == box and np.array_equal(whole.to_mask(), mask)
    filled = fill_boxes([whole])
    assert find_box(filled) == box and filled.sum() == (box[2] - box[0] + 1) * (box[3] - box[1] + 1)

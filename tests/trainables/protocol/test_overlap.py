import numpy as np
import pytest

from trainables.protocol.overlap import Overlap, count_overlap

LEFT = np.array([[1, 1, 0, 0]], bool)
MIDDLE = np.array([[0, 1, 1, 0]], bool)
RIGHT = np.array([[0, 0, 1, 1]], bool)
EMPTY = np.zeros((1, 4), bool)


@pytest.mark.parametrize(
    ("predicted", "actual", "dice", "iou"),
    [(LEFT, LEFT, 1, 1), (LEFT, RIGHT, 0, 0), (LEFT, MIDDLE, 1 / 2, 1 / 3), (EMPTY, EMPTY, 1, 1), (EMPTY, LEFT, 0, 0)],
)
def test_dice_and_iou(predicted: np.ndarray, actual: np.ndarray, dice: float, iou: float) -> None:
    overlap, swapped = count_overlap(predicted, actual), count_overlap(actual, predicted)
    assert (overlap.dice, overlap.iou) == pytest.approx((dice, iou))
    assert (swapped.dice, swapped.iou) == (overlap.dice, overlap.iou)


def test_dice_follows_from_iou() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        overlap = count_overlap(rng.random((8, 8)) < 0.5, rng.random((8, 8)) < 0.3)
        assert overlap.dice == pytest.approx(2 * overlap.iou / (1 + overlap.iou))


def test_pixels_that_do_not_count_belong_to_neither_mask_and_other_shapes_are_refused() -> None:
    valid = np.array([[0, 1, 1, 1]], bool)
    assert count_overlap(LEFT, MIDDLE, valid) == Overlap(shared=1, predicted=1, actual=2)
    with pytest.raises(Exception, match=r"\(1, 4\) and \(4, 1\)|type-?check"):
        count_overlap(LEFT, LEFT.T)


def test_sums_pool_pixels() -> None:
    pooled = Overlap(1, 2, 3) + Overlap(10, 20, 30)
    assert pooled == Overlap(11, 22, 33) and pooled.dice == pytest.approx(22 / 55)
    with pytest.raises(TypeError):
        Overlap(1, 2, 3) + 4  # type: ignore[operator]

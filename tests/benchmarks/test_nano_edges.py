import numpy as np
import pytest

from benchmarks.nano_edges import measure_boundary

SQUARE = np.zeros((80, 80), bool)
SQUARE[10:30, 10:30] = True


@pytest.mark.parametrize(("shift", "score"), [(0, 1.0), (2, 1.0), (4, None), (30, 0.0)])
def test_a_boundary_counts_within_two_pixels(shift: int, score: float | None) -> None:
    found = measure_boundary(np.roll(SQUARE, shift, axis=1), SQUARE)
    assert found == score if score is not None else 0.4 < found < 0.8  # two sides of four stay


def test_an_empty_mask_matches_only_an_empty_one() -> None:
    nothing = np.zeros_like(SQUARE)
    assert measure_boundary(nothing, SQUARE) == 0 and measure_boundary(nothing, nothing) == 1

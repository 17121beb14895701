import numpy as np
import pytest

from trainables.demo.noise import draw_noise, warp


@pytest.mark.parametrize("side_px", [128, 321])
@pytest.mark.parametrize("scale_px", [1.0, 1.7, 25.0, 200.0])
def test_noise_is_standardized_whatever_its_scale(side_px: int, scale_px: float) -> None:
    field = draw_noise(np.random.default_rng(0), side_px, scale_px)
    assert field.shape == (side_px, side_px) and field.dtype == np.float32
    assert field.mean() == pytest.approx(0, abs=1e-3) and field.std() == pytest.approx(1, abs=1e-3)


def test_noise_of_a_larger_scale_is_smoother() -> None:
    fields = [draw_noise(np.random.default_rng(0), 128, scale) for scale in (1.0, 4.0, 16.0, 64.0)]
    steps = [float(np.abs(np.diff(field)).mean()) for field in fields]
    assert steps == sorted(steps, reverse=True)


def test_warp_shifts_and_changes_no_argument() -> None:
    field = np.arange(64, dtype=np.float32).reshape(8, 8)
    shift = np.ones((8, 8), np.float32)
    warped = warp(field, shift, 0 * shift)
    np.testing.assert_allclose(warped[:, :7], field[:, 1:])
    np.testing.assert_array_equal(field.ravel(), np.arange(64))

"""What of a region the classifier is shown."""

import numpy as np
import pytest

from trainables.clip.crops import crop_region

FILL = (0.5, 0.25, 0.75)
FILL_8BIT = np.array([128, 64, 191])
SIDE = 60


def make_image(side: int = SIDE) -> np.ndarray:
    """Red grows to the right, green downwards: a pixel says where it comes from."""
    ramp = np.linspace(0, 1, side, dtype=np.float32)
    return np.stack([np.tile(ramp, (side, 1)), np.tile(ramp[:, None], (1, side)), np.zeros((side, side), np.float32)])


def make_mask(rows: slice, columns: slice, size: tuple[int, int] = (SIDE, SIDE)) -> np.ndarray:
    mask = np.zeros(size, bool)
    mask[rows, columns] = True
    return mask


def crop(mask: np.ndarray, margin: float = 0.0, size: tuple[int, int] = (SIDE, SIDE)) -> np.ndarray:
    cut = crop_region(make_image(), mask, size, FILL, margin)
    assert cut is not None and cut.dtype == np.uint8 and cut.shape == (len(cut), len(cut), 3)
    return cut


def test_a_square_mask_is_cut_out_exactly() -> None:
    cut = crop(make_mask(slice(10, 30), slice(25, 45)))
    assert np.array_equal(cut, (make_image()[:, 10:30, 25:45].transpose(1, 2, 0) * 255).round().astype(np.uint8))


@pytest.mark.parametrize(("margin", "side"), [(0.0, 20), (0.05, 22), (0.5, 40)])
def test_the_margin_is_a_share_of_the_longer_side(margin: float, side: int) -> None:
    assert len(crop(make_mask(slice(20, 30), slice(20, 40)), margin=margin)) == side


def test_what_is_outside_the_mask_is_filled() -> None:
    """An L of 20 px: its empty quarter is filled."""
    mask = make_mask(slice(10, 30), slice(10, 30))
    mask[10:20, 20:30] = False
    tissue = make_image()[:, 10:30, 10:30].transpose(1, 2, 0) * 255
    cut = crop(mask)
    assert np.abs(cut[:10, 10:] - np.array(FILL) * 255).max() <= 1
    assert np.abs(cut[10:] - tissue[10:]).max() <= 1


@pytest.mark.parametrize(
    ("rows", "columns"), [(slice(0, 4), slice(0, 40)), (slice(56, 60), slice(20, 60)), (slice(0, 60), slice(0, 1))]
)
def test_beyond_the_region_is_fill(rows: slice, columns: slice) -> None:
    """At a corner or an edge the square reaches out of the region; all of the mask stays in it."""
    mask = make_mask(rows, columns)
    cut = crop(mask, margin=0.1)
    longest = max(rows.stop - rows.start, columns.stop - columns.start)
    assert len(cut) == longest + 2 * round(0.1 * longest)
    assert (cut == FILL_8BIT).all(axis=-1).any()
    assert (cut != FILL_8BIT).any(axis=-1).sum() == mask.sum()


def test_proportions_are_the_region_s_own() -> None:
    """A disk in a region twice as wide as high is a disk again, though the store squeezed the region."""
    height, width = 100, 200
    y, x = np.ogrid[:height, :width]
    mask = (y - 50) ** 2 + (x - 80) ** 2 < 30**2
    cut = crop(mask, size=(height, width))
    shown = (cut != FILL_8BIT).any(axis=-1)
    rows, columns = np.flatnonzero(shown.any(axis=1)), np.flatnonzero(shown.any(axis=0))
    assert abs((rows[-1] - rows[0]) - (columns[-1] - columns[0])) <= 1
    assert len(cut) == pytest.approx(60 * SIDE / width, abs=2)


def test_a_mask_of_another_size_shows_the_same_tissue() -> None:
    """A protocol may score at a size of its own."""
    large = crop(make_mask(slice(20, 60), slice(40, 80), (120, 120)), size=(120, 120))
    small = crop(make_mask(slice(5, 15), slice(10, 20), (30, 30)), size=(120, 120))
    assert np.array_equal(large, small)


@pytest.mark.parametrize("where", [(0, 0), (599, 599), (300, 17)])
def test_one_pixel_of_a_large_region_is_still_shown(where: tuple[int, int]) -> None:
    mask = np.zeros((600, 600), bool)
    mask[where] = True
    assert (crop(mask, size=(600, 600)) != FILL_8BIT).any()


def test_arguments_are_not_changed_and_an_empty_mask_has_no_crop() -> None:
    image, mask = make_image(), make_mask(slice(0, 9), slice(0, 5))
    image.flags.writeable = mask.flags.writeable = False
    crop_region(image, mask, (SIDE, SIDE), FILL)
    assert crop_region(image, np.zeros((SIDE, SIDE), bool), (SIDE, SIDE), FILL) is None

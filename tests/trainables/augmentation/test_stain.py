import albumentations as A
import numpy as np
import pytest

from trainables.augmentation.stain import DENSITIES, StainJitter, compose_map

N_DRAWS = 48


def make_pair(strength: float) -> tuple[A.HEStain, StainJitter]:
    """Albumentations' own and ours, with the ranges of a recipe's strength."""
    ranges = {
        "intensity_scale_range": (1 - 0.3 * strength, 1 + 0.3 * strength),
        "intensity_shift_range": (-0.2 * strength, 0.2 * strength),
    }
    return A.HEStain(**ranges, p=1.0), StainJitter(**ranges, p=1.0)


def draw(transform: A.BasicTransform, image: np.ndarray, seed: int) -> np.ndarray:
    transform.set_random_seed(seed)
    changed: np.ndarray = transform(image=image)["image"]
    return changed


@pytest.mark.parametrize("strength", [0.05, 0.5, 1.0])
def test_every_draw_is_albumentations_own_to_rounding(tissue: np.ndarray, strength: float) -> None:
    theirs, ours = make_pair(strength)
    for seed in range(N_DRAWS // 6):
        difference = draw(ours, tissue, seed).astype(int) - draw(theirs, tissue, seed)
        # A pixel on the threshold between background and tissue may fall on the other side.
        assert (np.abs(difference) <= 1).mean() > 0.998
        assert abs(difference.mean()) < 0.1


@pytest.mark.parametrize("strength", [0.1, 1.0])
def test_densities_change_as_with_albumentations(tissue: np.ndarray, strength: float) -> None:
    """Mean and spread of each channel's change over draws with different seeds agree within their own errors."""
    before = DENSITIES[tissue].mean((0, 1))
    found = []
    for transform, first_seed in zip(make_pair(strength), (0, 1000), strict=True):
        pictures = [draw(transform, tissue, first_seed + each) for each in range(N_DRAWS)]
        found.append(np.array([DENSITIES[picture].mean((0, 1)) - before for picture in pictures]))
    theirs, ours = found
    spread = theirs.std(0)
    assert (np.abs(theirs.mean(0) - ours.mean(0)) < 4 * spread * np.sqrt(2 / N_DRAWS)).all()
    assert ours.std(0) == pytest.approx(spread, rel=0.4)


def test_black_white_and_pure_colors_stay_in_range() -> None:
    values = np.array([0, 1, 200, 230, 255], np.uint8)
    image = np.stack(np.meshgrid(values, values, values), -1).reshape(5, 25, 3)
    theirs, ours = make_pair(1.0)
    for seed in range(32):
        expected = draw(theirs, image, seed).astype(int)
        assert np.abs(draw(ours, image, seed) - expected).max() <= 1


def test_unchanged_concentrations_leave_two_stains_as_they_are() -> None:
    stains = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11]])
    matrix = compose_map(stains, np.ones(2), np.zeros(2))
    mixed = np.array([0.3, 0.8]) @ stains
    assert matrix @ [*mixed, 1] == pytest.approx(np.log(255) - mixed)
    doubled = compose_map(stains, np.array([2.0, 1.0]), np.array([0.0, 0.1]))
    assert doubled @ [*mixed, 1] == pytest.approx(np.log(255) - np.array([0.6, 0.9]) @ stains)

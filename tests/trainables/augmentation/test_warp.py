import math

import albumentations as A
import cv2
import numpy as np
import pytest

from trainables.augmentation.augmenter import ELASTIC_SIGMA, ELASTIC_SPREAD
from trainables.augmentation.warp import ElasticWarp, smooth

SIDE = 256
SIGMA_PX, SPREAD_PX = ELASTIC_SIGMA * SIDE, ELASTIC_SPREAD * SIDE
INNER = np.s_[48:-48, 48:-48]  # three sigma from the border, where albumentations' displacements grow


def warp(image: np.ndarray, mask: np.ndarray, seed: int, spread: float = ELASTIC_SPREAD) -> list[np.ndarray]:
    transform = ElasticWarp(ELASTIC_SIGMA, spread, p=1.0)
    transform.set_random_seed(seed)
    changed = transform(image=image, mask=mask)
    return [changed["image"], changed["mask"]]


def read_displacements(transform: A.DualTransform, seed: int) -> np.ndarray:
    """Returns x and y displacements in pixels, [2, side, side]."""
    transform.set_random_seed(seed)
    params = transform.get_params_dependent_on_data({"shape": (SIDE, SIDE, 3)}, {})
    if "places" in params:
        whole, fraction = params["places"]
        parts = np.stack([fraction % 32, fraction // 32], -1) / 32
        places = np.moveaxis(whole + parts, -1, 0)
    else:
        places = np.stack([params["map_x"], params["map_y"]])
    return places - np.mgrid[:SIDE, :SIDE][::-1]


def correlate(fields: np.ndarray, shift: int) -> float:
    """Returns the correlation of displacements so many pixels apart, across and down."""
    inner = fields[..., 48:-48, 48:-48]
    across = (inner[..., shift:] * inner[..., :-shift]).mean()
    down = (inner[..., shift:, :] * inner[..., :-shift, :]).mean()
    return float((across + down) / 2 / (inner**2).mean())


def test_displacements_have_the_spread_and_the_reach_of_albumentations() -> None:
    # As the pipeline asked for it: uniform noise has a variance of 1/3; smoothing divides it by 4 pi sigma squared.
    alpha = SPREAD_PX * 2 * math.sqrt(3 * math.pi) * SIGMA_PX
    stock = A.ElasticTransform(alpha, SIGMA_PX, noise_distribution="uniform", p=1.0)
    theirs = np.stack([read_displacements(stock, seed) for seed in range(48)])
    ours = np.stack([read_displacements(ElasticWarp(ELASTIC_SIGMA, ELASTIC_SPREAD), seed) for seed in range(48)])
    for fields in (theirs, ours):
        inner = fields[:, :, 48:-48, 48:-48]
        assert inner.std() == pytest.approx(SPREAD_PX, rel=0.1)
        assert abs(inner.mean()) < 0.1 * SPREAD_PX
        assert np.mean(np.abs(inner) < inner.std()) == pytest.approx(0.683, abs=0.03)  # normally distributed
        for shift in (8, 16, 32):
            assert correlate(fields, shift) == pytest.approx(math.exp(-((shift / 2 / SIGMA_PX) ** 2)), abs=0.06)
    # Why it is not albumentations' own: at the border its displacements have several times the spread.
    assert ours[..., 0].std() == pytest.approx(SPREAD_PX, rel=0.15)
    assert theirs[..., 0].std() > 3 * SPREAD_PX


@pytest.mark.parametrize(("n_pixels", "sigma_px"), [(64, 4.0), (100, 7.3), (256, 16.0)])
def test_the_weights_are_those_of_smoothed_white_noise(n_pixels: int, sigma_px: float) -> None:
    covariance = smooth(n_pixels, sigma_px) @ smooth(n_pixels, sigma_px).T
    distance = np.subtract.outer(np.arange(n_pixels), np.arange(n_pixels))
    assert np.abs(covariance - np.exp(-((distance / 2 / sigma_px) ** 2))).max() < 2e-3


def test_without_spread_nothing_moves(tissue: np.ndarray) -> None:
    mask = tissue[..., 0]
    image, same_mask = warp(tissue, mask, seed=0, spread=0.0)
    assert np.array_equal(image, tissue) and np.array_equal(same_mask, mask)


@pytest.mark.parametrize("shape", [(65, 130), (128, 90)])
def test_image_and_mask_move_alike_at_any_shape(shape: tuple[int, int]) -> None:
    mask = np.random.default_rng(0).choice(np.array([0, 7, 255], np.uint8), (5, 5))
    mask = cv2.resize(mask, shape[::-1], interpolation=cv2.INTER_NEAREST)
    image = np.repeat(mask[..., None], 3, axis=2)
    new_image, new_mask = warp(image, mask, seed=3)
    assert new_image.shape == image.shape and new_mask.shape == mask.shape
    assert set(np.unique(new_mask)) <= {0, 7, 255}
    pure = np.isin(new_image[..., 0], (0, 7, 255))  # not between two ids
    assert pure.mean() > 0.9 and (new_image[..., 0] == new_mask)[pure].mean() > 0.995
    assert (new_mask != mask).any()


def test_the_same_seed_gives_the_same_warp(tissue: np.ndarray) -> None:
    mask = tissue[..., 0]
    first, second, other = (warp(tissue, mask, seed) for seed in (1, 1, 2))
    assert np.array_equal(first[0], second[0]) and np.array_equal(first[1], second[1])
    assert not np.array_equal(first[0], other[0])

import numpy as np
import pytest

from trainables.demo.shapes import SCENE_SHARES, SCENES, TEXTURES, draw_bumps, draw_scene


def make_rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("side", [64, 128])
def test_scenes_follow_from_their_seed(side: int) -> None:
    image, labels = draw_scene(make_rng(1), side)
    again, labels_again = draw_scene(make_rng(1), side)
    other, _ = draw_scene(make_rng(2), side)
    assert np.array_equal(image, again) and np.array_equal(labels, labels_again)
    assert not np.array_equal(image, other)
    assert image.shape == (side, side, 3) and image.dtype == np.uint8
    assert labels.shape == (side, side) and labels.dtype == np.uint8


def test_scenes_show_2_to_5_areas_that_differ_and_are_not_flat() -> None:
    numbers, flat, alike = [], 0, 0
    for seed in range(30):
        image, labels = draw_scene(make_rng(seed), 96)
        areas = [image[labels == label] for label in np.unique(labels)]
        areas = [area.astype(float) for area in areas if len(area) > 100]
        numbers.append(len(np.unique(labels)))
        flat += sum(area.std(axis=0).max() < 1.5 for area in areas)
        statistics = [np.concatenate([area.mean(axis=0), area.std(axis=0)]) for area in areas]
        alike += sum(np.abs(one - other).max() < 1 for i, one in enumerate(statistics) for other in statistics[:i])
    assert max(numbers) <= 5 and np.mean(numbers) > 2
    assert len(SCENES) == len(SCENE_SHARES) and sum(SCENE_SHARES) == pytest.approx(1)
    assert flat <= 2 and alike <= 2


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("number", [2, 5])
def test_each_kind_of_scene_draws_labels_below_their_number(scene: object, number: int) -> None:
    assert callable(scene)
    labels = np.stack([scene(make_rng(seed), 64, number) for seed in range(5)])
    assert labels.min() == 0 and labels.max() == number - 1


@pytest.mark.parametrize("texture", TEXTURES)
def test_textures_lie_between_0_and_1_and_vary(texture: object) -> None:
    assert callable(texture)
    field = texture(make_rng(), 64)
    assert field.shape == (64, 64) and field.dtype == np.float32
    assert field.min() >= -1e-6 and field.max() <= 1 + 1e-6 and field.std() > 0.01


def test_noise_is_the_smoother_the_larger_its_cells() -> None:
    roughness = [np.abs(np.diff(draw_bumps(make_rng(), 128, cell))).mean() for cell in (2.0, 8.0, 32.0)]
    assert roughness == sorted(roughness, reverse=True) and roughness[0] > 4 * roughness[2]

import os
import subprocess
import sys

import numpy as np
import pytest

from trainables.augmentation.augmenter import ELASTIC_SPREAD, Augmenter
from trainables.recipe import AugmentRecipe

KINDS = ("flips", "color", "stain", "elastic", "all")


def draw_region(side: int) -> tuple[np.ndarray, np.ndarray]:
    """Pink and purple noise without symmetry, and a mask of three ids that are far apart."""
    rng = np.random.default_rng(side)
    mask = np.full((side, side), 2, np.uint8)
    mask[: side // 3] = 18
    mask[side // 2 :, : side // 2] = 200
    image = np.array((215, 150, 190), np.uint8) - rng.integers(0, 90, (side, side, 1), np.uint8)
    image[mask == 18] //= 2
    return image, mask


def list_symmetries(picture: np.ndarray) -> list[np.ndarray]:
    """The 8 flips and quarter turns, by brute force."""
    return [np.rot90(one, turns) for one in (picture, picture[:, ::-1]) for turns in range(4)]


def find_symmetry(before: np.ndarray, after: np.ndarray) -> int | None:
    """Which of the 8 it is, if any."""
    return next((i for i, one in enumerate(list_symmetries(before)) if np.array_equal(one, after)), None)


@pytest.mark.parametrize("side", [64, 256])
@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_keeps_sizes_and_ids_and_changes_the_picture(kind: str, side: int) -> None:
    image, mask = draw_region(side)
    kept = image.copy(), mask.copy()
    augmenter = Augmenter(AugmentRecipe(kind=kind, strength=0.5))
    unchanged = 0
    for seed in range(6):
        new_image, new_mask = augmenter(image, mask, seed)
        assert new_image.shape == image.shape and new_image.dtype == np.uint8
        assert new_mask.shape == mask.shape and new_mask.dtype == np.uint8
        assert set(np.unique(new_mask)) <= {2, 18, 200}
        unchanged += np.array_equal(new_image, image)
    assert unchanged <= 3
    assert np.array_equal(image, kept[0]) and np.array_equal(mask, kept[1])


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_picture_in_any_order(kind: str) -> None:
    image, mask = draw_region(64)
    recipe = AugmentRecipe(kind=kind, strength=0.5)
    augmenter = Augmenter(recipe)
    forwards = [augmenter(image, mask, seed) for seed in range(8)]
    other = Augmenter(recipe)
    backwards = [other(image, mask, seed) for seed in reversed(range(8))][::-1]
    for first, second in zip(forwards, backwards, strict=True):
        assert np.array_equal(first[0], second[0]) and np.array_equal(first[1], second[1])
    assert len({image.tobytes() for image, _ in forwards}) > 3


def test_flips_are_all_8_symmetries_of_image_and_mask_alike() -> None:
    image, mask = draw_region(64)
    augmenter = Augmenter(AugmentRecipe(kind="flips"))
    seen = set()
    for seed in range(80):
        new_image, new_mask = augmenter(image, mask, seed)
        which = find_symmetry(image, new_image)
        assert which is not None and np.array_equal(list_symmetries(mask)[which], new_mask)
        seen.add(which)
    assert seen == set(range(8))


@pytest.mark.parametrize("kind", ["color", "stain", "elastic", "all"])
def test_strength_0_is_flips_alone_and_none_changes_nothing(kind: str) -> None:
    image, mask = draw_region(64)
    augmenter, flips = (Augmenter(AugmentRecipe(kind=kind, strength=0.0)), Augmenter(AugmentRecipe(kind="flips")))
    for seed in range(5):
        assert np.array_equal(augmenter(image, mask, seed)[0], flips(image, mask, seed)[0])
    same_image, same_mask = Augmenter(AugmentRecipe(kind="none", strength=1.0))(image, mask, 3)
    assert same_image is image and same_mask is mask


@pytest.mark.parametrize("kind", ["color", "stain"])
def test_color_and_stain_do_not_move_the_mask(kind: str) -> None:
    image, mask = draw_region(64)
    augmenter = Augmenter(AugmentRecipe(kind=kind, strength=0.3))
    changed = 0
    for seed in range(20):
        new_image, new_mask = augmenter(image, mask, seed)
        assert find_symmetry(mask, new_mask) is not None
        changed += find_symmetry(image, new_image) is None
    assert 10 <= changed < 20  # 16 of 20 are expected


@pytest.mark.parametrize("side", [64, 256])
@pytest.mark.parametrize("strength", [0.25, 1.0])
def test_elastic_warps_move_pixels_by_the_documented_share_of_the_side(side: int, strength: float) -> None:
    # The image is its own map: red is x and green y, so displacements can be read off.
    image = np.zeros((side, side, 3), np.uint8)
    image[..., 0] = np.arange(side)[None, :]
    image[..., 1] = np.arange(side)[:, None]
    mask = np.zeros((side, side), np.uint8)
    augmenter = Augmenter(AugmentRecipe(kind="elastic", strength=strength))
    spreads = []
    for seed in range(24):
        new_image, _ = augmenter(image, mask, seed)
        flat = [one.astype(float) - image for one in list_symmetries(new_image)]
        inner = np.s_[side // 8 : -side // 8, side // 8 : -side // 8, :2]
        spread = min(float(np.sqrt(np.mean(difference[inner] ** 2))) for difference in flat)
        if spread > 0:
            spreads.append(spread)
    assert 6 <= len(spreads) <= 18  # one of two draws
    assert np.mean(spreads) == pytest.approx(ELASTIC_SPREAD * strength * side, rel=0.3)


def test_elastic_warps_bring_in_no_black_and_no_new_id() -> None:
    image, mask = np.full((64, 64, 3), 200, np.uint8), np.full((64, 64), 7, np.uint8)
    augmenter = Augmenter(AugmentRecipe(kind="elastic", strength=1.0))
    for seed in range(8):
        new_image, new_mask = augmenter(image, mask, seed)
        assert (new_image == 200).all() and (new_mask == 7).all()


def test_the_steps_of_all_have_luck_of_their_own() -> None:
    _, mask = draw_region(32)
    image = np.full((32, 32, 3), (200, 120, 170), np.uint8)  # of one color: no warp can change it
    augmenter = Augmenter(AugmentRecipe(kind="all", strength=1.0))
    outcomes = set()
    for seed in range(300):
        new_image, new_mask = augmenter(image, mask, seed)
        recolored = bool((new_image[0, 0] != image[0, 0]).any())
        outcomes.add((recolored, find_symmetry(mask, new_mask) is None))
    assert outcomes == {(True, True), (True, False), (False, True), (False, False)}


def test_without_quarter_turns_the_axes_stay() -> None:
    image, mask = draw_region(64)
    augmenter = Augmenter(AugmentRecipe(kind="flips", quarter_turns=False))
    pictures = [augmenter(image, mask, seed) for seed in range(40)]
    upright = (image, image[::-1], image[:, ::-1], image[::-1, ::-1])
    found = [next(i for i, one in enumerate(upright) if np.array_equal(one, new)) for new, _ in pictures]
    assert set(found) == {0, 1, 2, 3}
    assert all(find_symmetry(mask, new_mask) == find_symmetry(image, new) for new, new_mask in pictures)


def measure_angle(mask: np.ndarray) -> float:
    """Direction from the picture's center to the marked pixels' centroid, in degrees."""
    rows, columns = np.nonzero(mask == 1)
    center = (mask.shape[0] - 1) / 2
    return float(np.degrees(np.arctan2(rows.mean() - center, columns.mean() - center)))


@pytest.mark.parametrize("limit", [10.0, 90.0])
def test_turns_reach_any_angle_up_to_the_limit_and_bring_in_no_black(limit: float) -> None:
    rows, columns = np.mgrid[:101, :101] - 50
    mask = np.full((101, 101), 2, np.uint8)
    mask[(rows**2 + (columns - 30) ** 2) < 40] = 1  # a disc to the right, inside the circle that turns in place
    image = np.where(mask[..., None] == 1, np.uint8(90), np.uint8(200)).repeat(3, axis=2)
    augmenter = Augmenter(AugmentRecipe(kind="flips", quarter_turns=False, rotation_degrees=limit))
    angles = []
    for seed in range(60):
        new_image, new_mask = augmenter(image, mask, seed)
        assert set(np.unique(new_mask)) == {1, 2} and new_image.min() >= 89
        assert ((new_image[..., 0] < 145) == (new_mask == 1)).mean() > 0.99
        angles.append(measure_angle(new_mask))
    # A flip sends 0 degrees to 180: what is left is the turn.
    turns = np.array([(angle + 90) % 180 - 90 for angle in angles])
    assert np.abs(turns).max() <= limit + 0.5
    assert turns.min() < -0.7 * limit and turns.max() > 0.7 * limit
    assert len({round(turn) for turn in turns}) > 8


@pytest.mark.parametrize(("hue", "shift"), [(0.0, False), (0.5, True)])
def test_hue_turns_apart_from_strength(hue: float, shift: bool) -> None:
    image, mask = np.full((16, 16, 3), (200, 80, 80), np.uint8), np.zeros((16, 16), np.uint8)
    augmenter = Augmenter(AugmentRecipe(kind="color", strength=0.1, hue=hue))
    changed = [augmenter(image, mask, seed)[0][0, 0] for seed in range(12)]
    assert any(color[0] < max(color) for color in changed) == shift  # red leads until the hue turns
    assert any((color != image[0, 0]).any() for color in changed)


@pytest.mark.parametrize("strength", [0.1, 0.5])
def test_hue_is_a_quarter_of_strength_unless_given(strength: float) -> None:
    image, mask = draw_region(32)
    plain = Augmenter(AugmentRecipe(kind="color", strength=strength))
    given = Augmenter(AugmentRecipe(kind="color", strength=strength, hue=strength / 4))
    assert all(np.array_equal(plain(image, mask, s)[0], given(image, mask, s)[0]) for s in range(5))


def test_albumentations_is_imported_late_and_asks_for_no_version() -> None:
    code = (
        "import os, sys, trainables.augmentation.augmenter as a;"
        "from trainables.recipe import AugmentRecipe;"
        "a.Augmenter(AugmentRecipe(kind='none'));"
        "print('albumentations' in sys.modules, os.environ['NO_ALBUMENTATIONS_UPDATE'])"
    )
    environment = {key: value for key, value in os.environ.items() if key != "NO_ALBUMENTATIONS_UPDATE"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "1"]

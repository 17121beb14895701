import numpy as np
import pytest

from trainables.recipe import SamplingRecipe
from trainables.tiles.draws import WindowSampler, count_windows
from trainables.tiles.grid import Window

SIZES, SIDES = [(400, 300), (100, 100), (60, 500)], [100, 100, 100]
NONE = np.zeros(0, np.int32)
RARE = np.array([7 * 300 + 5, 200 * 300 + 150], np.int32)  # two pixels of the first region
PLACES = [[RARE, NONE, NONE], [NONE, NONE, NONE], [NONE, np.array([50], np.int32), NONE]]


def draw_all(recipe: SamplingRecipe, n_epochs: int = 20) -> list[tuple[int, Window]]:
    sampler = WindowSampler(SIZES, SIDES, PLACES, recipe)
    return [
        sampler.draw(position, np.random.default_rng((epoch, position)))
        for epoch in range(n_epochs)
        for position in range(len(sampler))
    ]


def shows(window: Window, place: int, width: int) -> bool:
    y, x = divmod(place, width)
    return window.top <= y < window.top + window.height and window.left <= x < window.left + window.width


def test_an_epoch_has_as_many_windows_as_tiles_fit_or_as_are_asked_for() -> None:
    assert count_windows(SIZES, SIDES) == 12 + 1 + 3
    assert len(WindowSampler(SIZES, SIDES, PLACES, SamplingRecipe())) == 16
    assert len(WindowSampler(SIZES, SIDES, PLACES, SamplingRecipe(windows=5))) == 5


@pytest.mark.parametrize("jitter", [0.0, 0.5])
@pytest.mark.parametrize("kind", ["uniform", "balanced"])
def test_windows_lie_in_their_regions_or_beyond_short_sides(jitter: float, kind: str) -> None:
    sides = set()
    for region, window in draw_all(SamplingRecipe(scale_jitter=jitter, kind=kind)):
        for start, side, length in zip(window[:2], window.size, SIZES[region], strict=True):
            assert 0 <= start <= max(0, length - side)
        sides.add(window.height)
    assert sides == {100} if not jitter else (min(sides) >= 66 and max(sides) <= 150 and len(sides) > 20)


def test_regions_come_by_their_area_and_places_change() -> None:
    drawn = draw_all(SamplingRecipe(windows=160), n_epochs=5)
    counts = np.bincount([region for region, _ in drawn], minlength=3)
    assert np.abs(counts - 800 * np.array([120, 10, 30]) / 160).max() <= 10  # at most one a border and epoch
    tops = {window.top for region, window in drawn if region == 0}
    assert len(tops) > 150 and min(tops) < 10 and max(tops) > 290


def test_regions_of_another_scale_come_by_their_area_in_tiles() -> None:
    sampler = WindowSampler([(800, 800), (400, 400)], [200, 100], [[NONE, NONE]], SamplingRecipe())
    regions = [sampler.draw(position, np.random.default_rng(position))[0] for position in range(len(sampler))]
    assert np.bincount(regions).tolist() == [16, 16]


def test_regions_of_about_a_tiles_size_are_seen_whole() -> None:
    sampler = WindowSampler([(130, 80)], [100], [[NONE]], SamplingRecipe())
    assert len(sampler) == 1 and sampler.draw(0, np.random.default_rng(0)) == (0, Window(0, 0, 130, 80))


def test_balanced_windows_show_each_class_equally_often() -> None:
    always = draw_all(SamplingRecipe(kind="balanced", strength=1.0, windows=200), n_epochs=5)
    rare = [window for region, window in always if region == 0]
    assert 400 < len(rare) < 600 and all(region != 2 for region, _ in always)
    assert all(any(shows(window, int(place), 300) for place in RARE) for window in rare)
    assert len({window for window in rare if shows(window, int(RARE[1]), 300)}) > 50  # not always in the middle
    some = draw_all(SamplingRecipe(kind="balanced", strength=0.25, windows=200), n_epochs=5)
    uniform = draw_all(SamplingRecipe(windows=200), n_epochs=5)
    share = np.mean([region == 1 for region, _ in some]) - np.mean([region == 1 for region, _ in uniform])
    assert 0.05 < share < 0.15  # a quarter of the windows, half of these


def test_balanced_without_any_class_is_uniform() -> None:
    sampler = WindowSampler(SIZES, SIDES, [[NONE] * 3], SamplingRecipe(kind="balanced", strength=1.0))
    assert {sampler.draw(position, np.random.default_rng(position))[0] for position in range(16)} == {0, 1, 2}

import numpy as np
import pytest

from trainables.export.semantic_overlay import MAX_SIDE_PX, draw_classes, draw_legend, pick_colors


@pytest.mark.parametrize("n_names", [2, 6, 12])
def test_background_alone_has_no_color(n_names: int) -> None:
    colors = pick_colors(n_names)
    assert len(colors) == n_names and [color is None for color in colors] == [False] * (n_names - 1) + [True]
    assert len(set(colors[:7])) == min(n_names, 7)


def test_classes_are_tinted_and_background_is_left_plain() -> None:
    image = np.full((40, 40, 3), 200, np.uint8)
    named = np.full((40, 40), 2, np.uint8)
    named[10:20, 10:20], named[25:30, 25:30] = 0, 1
    before = image.copy()
    picture = draw_classes(image, named, 2)
    assert np.array_equal(image, before)
    assert (picture[:8] == 200).all() and (picture[23:, :23] == 200).all()  # outlines are blended with their rim
    first, second = picture[14, 14].tolist(), picture[27, 27].tolist()
    assert first != second and first != [200] * 3


@pytest.mark.parametrize(
    ("shape", "drawn"), [((3000, 1500), (MAX_SIDE_PX, 1024)), ((1, 4096), (1, MAX_SIDE_PX)), ((5, 7), (5, 7))]
)
def test_large_overlays_shrink(shape: tuple[int, int], drawn: tuple[int, int]) -> None:
    picture = draw_classes(np.zeros((*shape, 3), np.uint8), np.zeros(shape, np.uint8), 1)
    assert picture.shape == (*drawn, 3)


def test_a_legend_has_a_row_a_name() -> None:
    assert draw_legend(["tumor", "background"]).shape[0] == 2 * draw_legend(["tumor"]).shape[0]

import numpy as np
import pytest

from trainables.tiles.grid import Tile, Tiles, Window, cut_window, take_region

SIZES = [(100, 260), (64, 64), (1000, 1), (30, 400), (97, 101), (20, 20), (129, 65)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.75])
def test_cores_fill_a_region_once_and_lie_in_their_windows(size: tuple[int, int], overlap: float) -> None:
    tiles = Tiles(64, overlap=overlap).cut(size, um_per_px=0)
    covered = np.zeros(size, int)
    for window, core in tiles:
        covered[core.slices] += 1
        assert core.top >= window.top and core.left >= window.left
        assert core.top + core.height <= window.top + window.height
        assert core.left + core.width <= window.left + window.width
        assert window.top >= 0 and window.left >= 0
    assert (covered == 1).all()


@pytest.mark.parametrize("size", SIZES)
def test_neighbors_share_at_least_the_overlap_and_reach_both_edges(size: tuple[int, int]) -> None:
    tiles = Tiles(64, overlap=0.25).cut(size, um_per_px=0)
    if len(tiles) > 1:
        for axis, length in enumerate(size):
            starts = sorted({tile.window[axis] for tile in tiles})
            assert starts[0] == 0 and starts[-1] == max(0, length - 64)
            assert all(after - before <= 48 for before, after in zip(starts, starts[1:], strict=False))


@pytest.mark.parametrize(
    ("size", "is_whole"), [((64, 64), True), ((96, 43), True), ((97, 64), False), ((42, 64), False)]
)
def test_regions_of_about_a_tiles_size_are_one_tile(size: tuple[int, int], is_whole: bool) -> None:
    assert (Tiles(64).cut(size, um_per_px=0) == [take_region(size)]) is is_whole


def test_a_side_is_meant_at_its_scale() -> None:
    tiles = Tiles(64, um_per_px=0.5)
    assert (tiles.find_side(0.25), tiles.find_side(0.5), tiles.find_side(1)) == (128, 64, 32)
    assert Tiles(64).find_side(0.25) == 64
    assert len(tiles.cut((256, 256), 0.25)) == 9 and len(tiles.cut((256, 256), 0.5)) == 25


def test_a_window_beyond_its_region_shows_the_mirror_image() -> None:
    pixels = np.arange(12).reshape(3, 4).astype(np.uint8)
    found = cut_window(pixels, Window(1, 2, 8, 3))  # longer than twice what is there
    rows, columns = [1, 2, 2, 1, 1, 2, 2, 1], [2, 3, 3]
    assert found.tolist() == pixels[rows][:, columns].tolist()
    inside = cut_window(pixels, Window(0, 1, 2, 2))
    assert inside.tolist() == [[1, 2], [5, 6]] and np.shares_memory(inside, pixels)


def test_a_core_is_found_in_its_window() -> None:
    tile = Tile(Window(10, 20, 64, 64), Window(18, 20, 40, 50))
    assert tile.core.shift(tile.window) == Window(8, 0, 40, 50)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1024", Tiles(1024)),
        ("512,0.5", Tiles(512, 0.5)),
        ("512,0.5,0", Tiles(512, 0.5, 0)),
        ("64,0,0.5", Tiles(64, 0, 0.5)),
    ],
)
def test_the_command_lines_text_is_read(text: str, expected: Tiles) -> None:
    assert Tiles.parse(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", "a", "1024,0.5,0.25,1", "31", "20001", "64,-1", "64,nan", "64,0.5,0.8", "64.5", "64,", "6_4", "\u0663\u0663"],
)
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        Tiles.parse(text)

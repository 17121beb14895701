from pathlib import Path

import pytest

from trainables.tiles.grid import Tiles
from trainables.tiles.scale_findings import describe_mixed_scales, describe_shrinking, find_unknown_scales
from trainables.tiles.um_per_px import Scale

ROOT = Path("data")
KNOWN, OTHER, UNKNOWN = Scale(0.25, "file names"), Scale(0.5, "file names"), Scale()


def test_tiles_at_a_scale_need_each_regions_own() -> None:
    (finding,) = find_unknown_scales(ROOT, ["a.png", "b.png"], [KNOWN, UNKNOWN], Tiles(64, 0.5))
    assert "1 region (b.png)" in finding.what and "um_per_px: 0.25" in finding.fix
    assert not find_unknown_scales(ROOT, ["a.png"], [KNOWN], Tiles(64, 0.5))
    assert not find_unknown_scales(ROOT, ["a.png"], [UNKNOWN], Tiles(64))


@pytest.mark.parametrize(("sizes", "n_shrunk"), [([(96, 96), (10, 96)], 0), ([(97, 64), (64, 64)], 1)])
def test_shrinking_regions_name_the_option(sizes: list[tuple[int, int]], n_shrunk: int) -> None:
    found = describe_shrinking(ROOT, sizes, 64)
    assert len(found) == n_shrunk
    if found:
        assert found[0].what.startswith("1 of 2 regions") and "--tiles 64" in found[0].fix


@pytest.mark.parametrize(
    ("scales", "tiles", "n_found"),
    [([KNOWN, OTHER], Tiles(64), 1), ([KNOWN, OTHER], Tiles(64, 0.5), 0), ([KNOWN, KNOWN, UNKNOWN], Tiles(64), 0)],
)
def test_tiles_of_several_scales_are_warned_of(scales: list[Scale], tiles: Tiles, n_found: int) -> None:
    assert len(describe_mixed_scales(ROOT, scales, tiles)) == n_found

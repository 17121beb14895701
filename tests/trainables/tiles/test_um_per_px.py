import pytest

from trainables.tiles.um_per_px import Scale, convert_resolution, describe_scales, find_in_name


@pytest.mark.parametrize(
    ("name", "um_per_px"),
    [
        ("TCGA-A1-A0SK-DX1_xmin45749_ymin25055_MPP-0.2500.png", 0.25),
        ("a_mpp0.5.tif", 0.5),
        ("mpp_1.png", 1),
        ("MPP-0.0000.png", 0),
        ("MPP-300.png", 0),
        ("sampp0.5.png", 0),
        ("region.png", 0),
    ],
)
def test_names_may_hold_the_scale(name: str, um_per_px: float) -> None:
    assert find_in_name(name).um_per_px == um_per_px


@pytest.mark.parametrize(
    ("pixels", "unit_um", "um_per_px"),
    [(40_000, 10_000, 0.25), (4_000_000, 1e6, 0.25), (72, 25_400, 0), (300, 25_400, 0), (0, 1e6, 0)],
)
def test_only_a_microscopes_resolution_counts(pixels: float, unit_um: float, um_per_px: float) -> None:
    assert convert_resolution(pixels, unit_um).um_per_px == um_per_px


def test_scales_in_words() -> None:
    named, tagged = Scale(0.25, "file names"), Scale(0.5, "resolution tags")
    assert describe_scales([Scale()]) == ""
    assert describe_scales([named, named]) == "0.25 um a pixel (from file names)"
    words = "0.25 to 0.5 um a pixel (from file names, resolution tags); unknown for 1 region"
    assert describe_scales([named, tagged, Scale()]) == words

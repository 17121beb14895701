from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainables.data.checks import decode_region, examine_regions
from trainables.data.regions import RegionSet, read_regions

Write = Callable[..., RegionSet]


def fill(*ids: int) -> np.ndarray:
    return np.resize(np.array(ids, np.uint8), (4, 6))


def test_good_regions_have_classes_no_findings_and_counts_of_pixels(write_regions: Write, tmp_path: Path) -> None:
    report = examine_regions(write_regions(tmp_path, {"a.png": fill(0, 1, 18), "b.png": fill(2, 5)}))
    assert report.findings == report.warnings == ()
    assert report.class_presence == {"a.png": {1, 18}, "b.png": {2}}
    regions = write_regions(tmp_path, {"a.png": fill(0, 1, 18)})
    decoded = decode_region(regions.regions[0], regions)
    assert decoded.pixels[[0, 1, 18]].tolist() == [8, 8, 8] and decoded.pixels.sum() == 24
    assert decoded.image is not None and decoded.image.shape == (4, 6, 3)


def test_all_findings_are_reported_sorted_by_file(write_regions: Write, tmp_path: Path) -> None:
    regions = write_regions(tmp_path, {f"{name}.png": fill(1) for name in "abcdefg"})
    (tmp_path / "images" / "a.png").write_bytes(b"")
    (tmp_path / "masks" / "a.png").write_bytes((tmp_path / "masks" / "b.png").read_bytes()[:40])
    Image.new("RGB", (5, 5)).save(tmp_path / "images" / "b.png")
    Image.fromarray(fill(0, 77)).save(tmp_path / "masks" / "c.png")
    Image.fromarray(fill(0, 255)).save(tmp_path / "masks" / "d.png")
    Image.new("RGB", (6, 4), "red").save(tmp_path / "masks" / "e.png")
    (tmp_path / "images" / "f.png").unlink()
    visited: list[str] = []
    report = examine_regions(regions, places=[lambda decoded: visited.append(decoded.region.name)] * 7)
    expected = [
        ("images/a.png", "0 bytes"),
        ("images/f.png", "cannot be read"),
        ("masks/a.png", "cannot be decoded"),
        ("masks/b.png", "the mask has 6 x 4 pixels (width x height), its image b.png 5 x 5"),
        ("masks/c.png", "holds none of the classes, only ids 0, 77"),
        ("masks/d.png", "looks like 0/255"),
        ("masks/e.png", "colors in place of class ids"),
    ]
    for finding, (where, what) in zip(report.findings, expected, strict=True):
        assert finding.where.endswith(where) and what in finding.what and finding.fix
    assert set(report.class_presence) == {"g.png"} and visited == ["g.png"]


NUCLEUS = "classes: {1: nucleus}\n"


@pytest.mark.parametrize(
    ("settings", "ids", "n_findings"),
    [
        ("", (1, 21), 0),
        ("", (1, 22), 1),
        ("", (0, 1, 255), 1),
        (NUCLEUS, (0, 1), 0),
        (NUCLEUS, (1, 22), 1),
        (NUCLEUS + "background: [22]", (1, 22), 0),
        (NUCLEUS + "ignore: [22]", (1, 22), 0),
        (NUCLEUS + "background: [23]", (1, 22), 1),
        (NUCLEUS + "background: [22]", (0, 22), 0),
        ("classes: {255: nucleus}", (0, 255), 0),
        (NUCLEUS, (0, 255), 1),
        (NUCLEUS, (255,), 1),
        (NUCLEUS, (0,), 0),
        (NUCLEUS + "ignore: [0]", (0,), 1),
        (NUCLEUS + "ignore: [7]", (0, 7), 0),
        ("", (0,), 1),
        ("", (0, 5), 0),
        ("classes: {0: normal}", (0,), 0),
    ],
)
def test_ids(write_regions: Write, tmp_path: Path, settings: str, ids: tuple[int, ...], n_findings: int) -> None:
    regions = write_regions(tmp_path, {"a.png": fill(*ids)}, text=settings)
    report = examine_regions(regions, places=[lambda decoded: decoded.sha256])
    assert (len(report.findings), report.warnings) == (n_findings, ())
    assert len(report.stored) == 1 - n_findings


@pytest.mark.parametrize(
    ("size", "turns", "text"),
    [
        ((6, 6), (6, 1), "turn the image by its orientation tag (6)"),
        ((6, 6), (1, 3), "and its mask otherwise (3)"),
        ((6, 4), (3, 1), "orientation tag (3)"),
        ((6, 4), (8, 6), "orientation tag (8)"),
        ((6, 4), (6, 6), ""),
        ((6, 4), (6, 1), ""),  # only the pixels as they are stored have one size
        ((6, 4), (1, 1), ""),
    ],
)
def test_pictures_that_viewers_turn_apart(
    write_regions: Write, tmp_path: Path, size: tuple[int, int], turns: tuple[int, int], text: str
) -> None:
    regions = write_regions(tmp_path, {"a.tif": np.ones(size, np.uint8)})
    for path, turn in zip((regions.regions[0].image, regions.regions[0].mask), turns, strict=True):
        Image.open(path).save(path, exif={0x0112: turn})
    assert text in " ".join(finding.what for finding in decode_region(regions.regions[0], regions).findings)
    assert len(decode_region(regions.regions[0], regions).findings) == bool(text)


def test_a_mask_of_the_turned_size_is_explained(write_regions: Write, tmp_path: Path) -> None:
    regions = write_regions(tmp_path, {"a.tif": np.ones((4, 6), np.uint8)})
    image = regions.regions[0].image
    Image.open(image).transpose(Image.Transpose.ROTATE_90).save(image, exif={0x0112: 6})
    (finding,) = decode_region(regions.regions[0], regions).findings
    assert finding.where == str(image) and "(6)" in finding.what and "auto-orient" in finding.fix


@pytest.mark.parametrize("folder", ["he_nuclei", "he_tumour", "bcss_crops"])
def test_real_data_has_no_findings(shared_data: Path, folder: str) -> None:
    report = examine_regions(read_regions(shared_data / folder))
    assert report.findings == report.warnings == ()

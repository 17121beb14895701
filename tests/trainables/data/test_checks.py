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
    Image.fromarray(fill(0, 7)).save(tmp_path / "masks" / "c.png")
    Image.fromarray(fill(0, 255)).save(tmp_path / "masks" / "d.png")
    Image.new("RGB", (6, 4), "red").save(tmp_path / "masks" / "e.png")
    (tmp_path / "images" / "f.png").unlink()
    visited: list[str] = []
    report = examine_regions(regions, visit=lambda decoded: visited.append(decoded.region.name))
    expected = [
        ("images/a.png", "0 bytes"),
        ("images/f.png", "cannot be read"),
        ("masks/a.png", "cannot be decoded"),
        ("masks/b.png", "the mask has 6 x 4 pixels (width x height), its image b.png 5 x 5"),
        ("masks/c.png", "holds none of the classes, only ids 0, 7"),
        ("masks/d.png", "looks like 0/255"),
        ("masks/e.png", "colors in place of class ids"),
    ]
    for finding, (where, what) in zip(report.findings, expected, strict=True):
        assert finding.where.endswith(where) and what in finding.what and finding.fix
    assert set(report.class_presence) == {"g.png"} and visited == []


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
        (NUCLEUS + "background: [22]", (0, 22), 1),
        ("classes: {255: nucleus}", (0, 255), 0),
        (NUCLEUS, (0, 255), 1),
        (NUCLEUS, (255,), 1),
        (NUCLEUS, (0,), 1),
        ("classes: {0: background}", (0,), 0),
    ],
)
def test_ids(write_regions: Write, tmp_path: Path, settings: str, ids: tuple[int, ...], n_findings: int) -> None:
    visited = []
    report = examine_regions(write_regions(tmp_path, {"a.png": fill(*ids)}, text=settings), visit=visited.append)
    assert (len(report.findings), report.warnings) == (n_findings, ())
    assert len(visited) == 1 - n_findings


@pytest.mark.parametrize("folder", ["he_nuclei", "he_tumour", "bcss_crops"])
def test_real_data_has_no_findings(shared_data: Path, folder: str) -> None:
    report = examine_regions(read_regions(shared_data / folder))
    assert report.findings == report.warnings == ()

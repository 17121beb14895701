from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainables.data.checks import decode_region, digest_pixels, examine_regions
from trainables.data.regions import RegionSet, read_regions


def write_set(root: Path, masks: dict[str, np.ndarray], classes: str | None = None) -> RegionSet:
    (root / "images").mkdir()
    (root / "masks").mkdir()
    for name, mask in masks.items():
        Image.new("RGB", (mask.shape[1], mask.shape[0]), "pink").save(root / "images" / name)
        Image.fromarray(mask).save(root / "masks" / name)
    if classes is not None:
        (root / "dataset.yaml").write_text(f"classes: {classes}")
    return read_regions(root)


def fill(*ids: int) -> np.ndarray:
    return np.resize(np.array(ids, np.uint8), (4, 6))


def test_good_regions_have_no_findings_and_tell_their_classes(tmp_path: Path) -> None:
    report = examine_regions(write_set(tmp_path, {"a.png": fill(0, 1, 18), "b.png": fill(2, 5)}))
    assert report.findings == report.warn_regions == ()
    assert report.class_presence == {"a.png": {1, 18}, "b.png": {2}}


def test_everything_is_told_at_once_sorted_by_file(tmp_path: Path) -> None:
    regions = write_set(tmp_path, {f"{name}.png": fill(1) for name in "abcdefg"})
    (tmp_path / "images" / "a.png").write_bytes(b"")
    (tmp_path / "masks" / "a.png").write_bytes((tmp_path / "masks" / "b.png").read_bytes()[:40])
    Image.new("RGB", (5, 5)).save(tmp_path / "images" / "b.png")
    Image.fromarray(fill(0, 7)).save(tmp_path / "masks" / "c.png")
    Image.fromarray(fill(0, 255)).save(tmp_path / "masks" / "d.png")
    Image.new("RGB", (6, 4), "red").save(tmp_path / "masks" / "e.png")
    (tmp_path / "images" / "f.png").unlink()
    findings = examine_regions(regions).findings
    told = [
        ("images/a.png", "0 bytes"),
        ("images/f.png", "cannot be read"),
        ("masks/a.png", "cannot be decoded"),
        ("masks/b.png", "the mask has 6 x 4 pixels (width x height), its image b.png 5 x 5"),
        ("masks/c.png", "holds none of the classes, only ids 0, 7"),
        ("masks/d.png", "looks like 0/255"),
        ("masks/e.png", "colors in place of class ids"),
    ]
    assert len(findings) == len(told)
    for finding, (where, what) in zip(findings, told, strict=True):
        assert finding.where.endswith(where) and what in finding.what and finding.fix
    assert set(examine_regions(regions).class_presence) == {"g.png"}


@pytest.mark.parametrize(
    ("classes", "ids", "n_findings", "n_warnings"),
    [
        (None, (1, 21), 0, 0),
        (None, (1, 22), 1, 0),
        (None, (0, 1, 255), 1, 0),
        ("{1: nucleus}", (0, 1), 0, 0),
        ("{1: nucleus}", (1, 22), 1, 0),
        ("{1: nucleus}\nbackground: [22]", (1, 22), 0, 0),
        ("{1: nucleus}\nignore: [22]", (1, 22), 0, 0),
        ("{1: nucleus}\nbackground: [23]", (1, 22), 1, 0),
        ("{1: nucleus}\nbackground: [22]", (0, 22), 1, 0),
        ("{255: nucleus}", (0, 255), 0, 0),
        ("{1: nucleus}", (0, 255), 1, 0),
        ("{1: nucleus}", (255,), 1, 0),
        ("{1: nucleus}", (0,), 1, 0),
        ("{0: background}", (0,), 0, 0),
    ],
)
def test_ids(
    tmp_path: Path, classes: str | None, ids: tuple[int, ...], n_findings: int, n_warnings: int
) -> None:
    report = examine_regions(write_set(tmp_path, {"a.png": fill(*ids)}, classes))
    assert (len(report.findings), len(report.warn_regions)) == (n_findings, n_warnings)


def test_decoded_region_counts_pixels(tmp_path: Path) -> None:
    regions = write_set(tmp_path, {"a.png": fill(0, 1, 18)})
    decoded = decode_region(regions.regions[0], regions)
    assert decoded.pixels[[0, 1, 18]].tolist() == [8, 8, 8] and decoded.pixels.sum() == 24
    assert decoded.image is not None and decoded.image.shape == (4, 6, 3)


@pytest.mark.parametrize("folder", ["he_nuclei", "he_tumour", "bcss_crops"])
def test_real_data_has_no_findings(shared_data: Path, folder: str) -> None:
    report = examine_regions(read_regions(shared_data / folder))
    assert report.findings == report.warn_regions == ()


def turn_eightfold(image: np.ndarray) -> list[np.ndarray]:
    return [np.rot90(one, turns) for one in (image, image[:, ::-1]) for turns in range(4)]


@pytest.mark.parametrize("low", [0, 255])  # 255: all rows tie until the last pixels
@pytest.mark.parametrize(("h", "w"), [(1, 1), (1, 7), (5, 5), (4, 9), (9, 4)])
def test_turned_and_mirrored_pixels_have_one_digest(h: int, w: int, low: int) -> None:
    image = np.random.default_rng(h).integers(low, 256, (h, w, 3), np.uint8)
    image[-1, -1] = 7
    assert len({digest_pixels(one) for one in turn_eightfold(image)}) == 1


def test_other_pixels_have_another_digest() -> None:
    image = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    changed = image.copy()
    changed[3, 4, 1] ^= 1
    others = [image, changed, image[..., ::-1], image.reshape(4, 12, 3), image[:-1], 255 - image]
    assert len({digest_pixels(one) for one in others}) == len(others)


def test_digest_does_not_depend_on_the_file(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    image = Image.fromarray(pixels)
    image.save(tmp_path / "images" / "a.png", compress_level=0)
    image.save(tmp_path / "images" / "b.png", compress_level=9)
    image.save(tmp_path / "images" / "c.tif")
    image.save(tmp_path / "images" / "d.tiff", compression="tiff_lzw")
    image.convert("RGBA").save(tmp_path / "images" / "e.png")
    for name in "abcde":
        Image.fromarray(np.resize(fill(1, 2), (6, 8))).save(tmp_path / "masks" / f"{name}.png")
    regions = read_regions(tmp_path)
    decoded = [decode_region(region, regions) for region in regions.regions]
    assert {one.pixel_digest for one in decoded} == {digest_pixels(pixels)}
    assert len({one.sha256[0] for one in decoded}) == 5


def test_image_that_cannot_be_decoded_has_no_digest(tmp_path: Path) -> None:
    regions = write_set(tmp_path, {"a.png": fill(1)})
    regions.regions[0].image.write_bytes(b"no picture")
    assert decode_region(regions.regions[0], regions).pixel_digest == ""

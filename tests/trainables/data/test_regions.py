from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainables.data.regions import BCSS_CLASSES, BCSS_IDS, list_regions, read_regions
from trainables.errors import DataError

RGB = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)
IDS = np.random.default_rng(1).integers(0, 4, (6, 9), np.uint8)


def write_pair(root: Path, image: str = "a.png", mask: str = "a.png") -> None:
    for folder, name, pixels in (("images", image, RGB), ("masks", mask, IDS)):
        (root / folder).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(root / folder / name)


def find_all(root: Path) -> str:
    with pytest.raises(DataError) as caught:
        read_regions(root)
    return str(caught.value)


def test_bcss_ids_are_those_of_the_publication() -> None:
    assert len(BCSS_IDS) == 22 and BCSS_IDS[5] == "glandular_secretions" and BCSS_IDS[21] == "other"
    assert BCSS_CLASSES == {1: "tumor", 2: "stroma", 3: "lymphocyte", 4: "necrosis", 18: "blood_vessel"}


def test_folder_without_yaml_is_bcss(tmp_path: Path) -> None:
    write_pair(tmp_path, "b.jpg", "b.png")
    write_pair(tmp_path, "a.TIF", "a.tiff")
    (tmp_path / "images" / ".DS_Store").write_bytes(b"x")
    regions = read_regions(tmp_path)
    assert [region.name for region in regions.regions] == ["a.TIF", "b.jpg"]
    assert [region.mask.name for region in regions.regions] == ["a.tiff", "b.png"]
    assert regions.name == tmp_path.name and regions.root.is_absolute()
    assert regions.is_bcss and regions.ignore_ids == (0,) and regions.declared_split is None


def test_yaml_is_read_and_classes_are_sorted(tmp_path: Path) -> None:
    write_pair(tmp_path)
    (tmp_path / "dataset.yaml").write_text(
        "name: x\nclasses: {3: c, 1: a}\nignore: [9, 0]\nsplit: {train: [a.png], val: []}\npatients: {a.png: 7}\n"
    )
    regions = read_regions(tmp_path)
    assert regions.name == "x" and list(regions.classes.items()) == [(1, "a"), (3, "c")]
    assert regions.ignore_ids == (0, 9) and regions.regions[0].patient == "7"
    assert regions.declared_split == {"train": ("a.png",), "val": (), "test": ()}


@pytest.mark.parametrize(
    ("text", "ignore_ids"),
    [
        ("", (0,)),
        ("name: x", (0,)),
        ("classes: {1: nucleus}", ()),
        ("classes: {1: tumor, 2: stroma, 3: lymphocyte, 4: necrosis, 18: blood_vessel}", (0,)),
        ("ignore: []", ()),
    ],
)
def test_ignored_ids_when_not_stated(tmp_path: Path, text: str, ignore_ids: tuple[int, ...]) -> None:
    write_pair(tmp_path)
    (tmp_path / "dataset.yaml").write_text(text)
    assert read_regions(tmp_path).ignore_ids == ignore_ids


@pytest.mark.parametrize(
    ("text", "background", "ignored", "n_warnings"),
    [
        ("classes: {0: background, 1: a}", (0,), (), 1),
        ("classes: {0: _background_, 1: a}\nbackground: [0, 2]", (0, 2), (), 1),
        ("classes: {1: a, 2: BG, 255: void}\nignore: [0]", (2,), (0, 255), 2),
        ("classes: {0: background, 1: tumor, 2: stroma, 3: lymphocyte, 4: necrosis, 18: blood_vessel}", (0,), (), 1),
        ("classes: {1: tumor, 2: stroma, 3: lymphocyte, 4: necrosis, 18: blood_vessel}\nbackground: [0]", (0,), (), 0),
    ],
)
def test_background_and_ignored_ids_among_the_classes_are_none(
    tmp_path: Path, text: str, background: tuple[int, ...], ignored: tuple[int, ...], n_warnings: int
) -> None:
    write_pair(tmp_path)
    (tmp_path / "dataset.yaml").write_text(text)
    listing = list_regions(tmp_path)
    assert listing.regions and not listing.findings
    assert (listing.regions.background_ids, listing.regions.ignore_ids) == (background, ignored)
    assert 0 not in listing.regions.classes and 255 not in listing.regions.classes
    assert all("the name makes it no class" in warning.what for warning in listing.warnings)
    assert len(listing.warnings) == n_warnings


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("classes: {0: background}", "names no class but background"),
        ("classes: {0: background, 1: a}\nignore: [0]", "0 is also the class background"),
        ("split: {trian: [a.png]}", "did you mean 'train'?"),
        ("split: {train: [[a.png]]}", "no list of file names"),
        ("split: {train: a.png}", "no list of file names"),
        ("split: [a.png]", "must be a mapping, but got a list"),
        ("classes: {a: 1}", "whole number"),
        ("classes: {256: a}", "0..255"),
        ("classes: {true: a}", "whole number"),
        ("classes: {1: }", "the name is nothing"),
        ("classes: {1: a/b}", "'a/b'"),
        ("classes: []", "must be a mapping, but got a list"),
        ("patients: {b.png: p}", "did you mean 'a.png'?"),
        ("classes: {1: a", "not valid YAML"),
    ],
)
def test_yaml_problems(tmp_path: Path, text: str, expected: str) -> None:
    write_pair(tmp_path)
    (tmp_path / "dataset.yaml").write_text(text)
    findings = find_all(tmp_path)
    assert expected in findings and "dataset.yaml" in findings


def test_all_findings_at_once(tmp_path: Path) -> None:
    write_pair(tmp_path, "a.png", "b.png")
    write_pair(tmp_path, "c.png", "c.png")
    write_pair(tmp_path, "c.jpg", "C2.png")
    write_pair(tmp_path, "TCGA-A1-A0SK.png", "TCGA-A1-A0SK.png")
    (tmp_path / "dataset.yaml").write_text("colour: 1\npatients: {TCGA-A1-A0SK.png: TCGA-A1-A0SX}")
    findings = find_all(tmp_path)
    for text in ("images/a.png: has no mask", "masks/b.png: has no image", "c.jpg, c.png share one stem"):
        assert text in findings
    assert "colour" in findings and "the file's name says TCGA-A1-A0SK" in findings


@pytest.mark.parametrize(
    ("folders", "where", "text"),
    [
        ((), "", "there is no such folder"),
        ((".",), "masks", "there is no such folder"),
        (("images", "masks"), "images", "holds no PNG"),
    ],
)
def test_folders_without_files(tmp_path: Path, folders: tuple[str, ...], where: str, text: str) -> None:
    root = tmp_path / "set"
    for folder in folders:
        (root / folder).mkdir(parents=True)
    assert f"{root / where}: {text}" in find_all(root)


@pytest.mark.parametrize(("folder", "count"), [("he_nuclei", 107), ("he_tumour", 12), ("bcss_crops", 6)])
def test_real_data_is_listed(shared_data: Path, folder: str, count: int) -> None:
    regions = read_regions(shared_data / folder)
    assert len(regions.regions) == count
    assert regions.is_bcss == (folder == "bcss_crops")
    assert (regions.declared_split is None) == (folder != "he_nuclei")

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from trainables.data.leaks import describe_hospitals, find_duplicates, find_leaks
from trainables.data.regions import Region, RegionSet, read_regions
from trainables.data.splits import Split, bcss_split, make_split
from trainables.data.store import RegionStore

Build = Callable[..., tuple[RegionSet, RegionStore]]
Change = Callable[[np.ndarray], np.ndarray]
PIXELS = {name: np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8) for seed, name in enumerate("abcdef")}


@pytest.fixture
def build(write_regions: Callable[..., RegionSet], tmp_path: Path) -> Build:
    """Makes a data set of images by file name, and its store; patients are declared by file name."""

    def make(images: dict[str, np.ndarray], patients: dict[str, str] | None = None) -> tuple[RegionSet, RegionStore]:
        masks = {f"{Path(name).stem}.png": np.ones(pixels.shape[:2], np.uint8) for name, pixels in images.items()}
        text = yaml.safe_dump({"classes": {1: "a"}, "patients": patients or {}})
        regions = write_regions(tmp_path, masks, images, text)
        return regions, RegionStore.build(regions, 8, tmp_path / "cache")

    return make


def split_by(train: str, val: str, test: str) -> Split:
    train_names, val_names, test_names = (tuple(names.split()) for names in (train, val, test))
    return Split("declared", "", train_names, val_names, test_names)


def test_a_clean_split_has_no_leak_and_regions_in_no_part_have_none(build: Build) -> None:
    images = {f"{name}.png": PIXELS[name] for name in "abcd"}
    regions, store = build(images, {"a.png": "p", "b.png": "p"})
    assert find_leaks(split_by("a.png b.png", "c.png", "d.png").parts, regions, store) == []
    assert find_duplicates(store) == []
    regions, store = build({**images, "x.png": PIXELS["a"]}, {"a.png": "p", "x.png": "p"})
    assert find_leaks(split_by("a.png", "b.png", "c.png").parts, regions, store) == []


def test_every_leak_is_reported_with_names_parts_and_patients(build: Build, tmp_path: Path) -> None:
    images = {f"{name}.png": PIXELS[name] for name in "abcde"} | {"copy.tif": PIXELS["c"]}
    regions, store = build(images, {"a.png": "p", "b.png": "p", "d.png": "q", "e.png": "q"})
    found = find_leaks(split_by("a.png c.png d.png", "b.png e.png", "copy.tif").parts, regions, store)
    expected = [
        ["patient p stands in 2 parts: train a.png; val b.png"],
        ["patient q stands in 2 parts: train d.png; val e.png"],
        ["same pixels", "train c.png; test copy.tif", "patients c, copy"],
    ]
    for finding, texts in zip(found, expected, strict=True):
        assert all(text in finding.what for text in texts), finding
        assert "--allow-leak" in finding.fix and finding.where == f"{tmp_path} split"


@pytest.mark.parametrize(
    ("change", "leaks"),
    [
        (lambda a: a, True),
        (lambda a: a[::-1], True),
        (lambda a: a[:, ::-1], True),
        (lambda a: np.rot90(a), True),
        (lambda a: np.rot90(a, 3)[::-1], True),
        (lambda a: a[:-1], False),
        (lambda a: a ^ 1, False),
    ],
)
def test_turned_copies_leak_and_changed_ones_do_not(build: Build, change: Change, leaks: bool) -> None:
    images = {f"{name}.png": PIXELS[name] for name in "ab"} | {"x.png": np.ascontiguousarray(change(PIXELS["a"]))}
    regions, store = build(images)
    assert bool(find_leaks(split_by("a.png", "b.png", "x.png").parts, regions, store)) == leaks
    assert bool(find_duplicates(store)) == leaks


def test_a_leak_through_three_parts_is_one_finding(build: Build) -> None:
    images = {f"{name}.png": PIXELS["a"] for name in "abcd"}
    regions, store = build(images, {"a.png": "p"})
    (finding,) = find_leaks(split_by("a.png b.png", "c.png", "d.png").parts, regions, store)
    assert "3 parts: train a.png, b.png; val c.png; test d.png" in finding.what


def test_many_names_are_cut_short(build: Build) -> None:
    images = {f"{i}.png": np.full((4, 4, 3), i, np.uint8) for i in range(9)}
    regions, store = build(images, dict.fromkeys(images, "p"))
    split = Split("declared", "", ("0.png", "1.png", "2.png", "3.png", "4.png", "5.png"), ("6.png",), ("7.png",))
    (finding,) = find_leaks(split.parts, regions, store)
    assert "train 0.png, 1.png, 2.png, 3.png, and 2 more; val 6.png" in finding.what


def test_copies_inside_one_part_are_a_warning_only(build: Build) -> None:
    images = {f"{name}.png": PIXELS[name] for name in "abc"} | {"x.png": PIXELS["a"], "y.png": PIXELS["a"][::-1]}
    regions, store = build(images)
    assert find_leaks(split_by("a.png x.png y.png", "b.png", "c.png").parts, regions, store) == []
    (warning,) = find_duplicates(store)
    assert warning.where == "a.png" and "x.png, y.png" in warning.what


def make_tcga(hospitals: str) -> tuple[RegionSet, list[str]]:
    names = [f"TCGA-{one}-A{i:03d}-DX1.png" for i, one in enumerate(hospitals.split())]
    root = Path("/data")
    regions = tuple(Region(name, root / name, root / name, name[:12]) for name in sorted(names))
    return RegionSet("x", root, {1: "a"}, (), regions, None), names


@pytest.mark.parametrize(
    ("hospitals", "text"),
    [
        ("A1 A2 A7", ""),
        ("A1 A1 A7", "train and val share 1 hospital (A1); test shares none."),
        ("A1 A2 A1", "train and test share 1 hospital (A1)."),
        ("A1 A1 A1", "train and val and test share 1 hospital (A1)."),
    ],
)
def test_shared_hospitals_are_described(hospitals: str, text: str) -> None:
    regions, names = make_tcga(hospitals)
    assert describe_hospitals(split_by(*names), regions) == text


def test_recorded_split_shares_hospitals_with_validation_only() -> None:
    regions, _ = make_tcga("OL LL E2 EW GM S3 " * 3 + "A1 A2 BH " * 10)
    split = bcss_split(region.name for region in regions.regions)
    assert describe_hospitals(split, regions) == "train and val share 3 hospitals (A1, A2, BH); test shares none."


def test_unknown_hospitals_are_not_vouched_for() -> None:
    regions, names = make_tcga("A1 A1 A7")
    other = Region("x.png", Path("x.png"), Path("x.png"), "x")
    regions = replace(regions, regions=(*regions.regions, other))
    split = split_by(names[0], names[1], "x.png")
    assert describe_hospitals(split, regions) == "train and val share 1 hospital (A1)."
    assert describe_hospitals(split_by("x.png", names[0], names[2]), regions) == ""


@pytest.mark.parametrize("folder", ["he_tumour", "bcss_crops"])
def test_real_crops_are_split_without_leaks(shared_data: Path, tmp_path: Path, folder: str) -> None:
    regions = read_regions(shared_data / folder)
    store = RegionStore.build(regions, 64, tmp_path)
    assert (store.class_pixels.sum(axis=1) > 0).all()
    split = make_split(regions, class_presence=store.class_presence())
    assert split.kind == "random" and sum(map(len, split.parts.values())) == len(store)
    assert find_leaks(split.parts, regions, store) == [] and find_duplicates(store) == []
    assert describe_hospitals(split, regions) == ""

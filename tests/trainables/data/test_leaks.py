from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from trainables.data.leaks import describe_hospitals, find_duplicates, find_leaks
from trainables.data.regions import Region, RegionSet, read_regions
from trainables.data.splits import Split, bcss_split, make_split
from trainables.data.store import RegionStore

Change = Callable[[np.ndarray], np.ndarray]
PIXELS = {name: np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8) for seed, name in enumerate("abcdef")}


def build(
    root: Path, images: dict[str, np.ndarray], patients: dict[str, str] | None = None
) -> tuple[RegionSet, RegionStore]:
    for folder in ("images", "masks"):
        (root / folder).mkdir()
    for name, pixels in images.items():
        Image.fromarray(pixels).save(root / "images" / name)
        Image.fromarray(np.ones(pixels.shape[:2], np.uint8)).save(root / "masks" / f"{Path(name).stem}.png")
    settings = {"classes": {1: "a"}, "patients": patients or {}}
    (root / "dataset.yaml").write_text(yaml.safe_dump(settings))
    regions = read_regions(root)
    return regions, RegionStore.build(regions, 8, root / "cache")


def split_by(train: str, val: str, test: str) -> Split:
    train_names, val_names, test_names = (tuple(names.split()) for names in (train, val, test))
    return Split("declared", "", train_names, val_names, test_names)


def test_clean_split_has_no_leak(tmp_path: Path) -> None:
    regions, store = build(tmp_path, {f"{name}.png": PIXELS[name] for name in "abcd"}, {"a.png": "p", "b.png": "p"})
    assert find_leaks(split_by("a.png b.png", "c.png", "d.png").parts, regions, store) == []
    assert find_duplicates(store) == []


def test_every_leak_is_told_with_names_parts_and_patients(tmp_path: Path) -> None:
    images = {f"{name}.png": PIXELS[name] for name in "abcde"} | {"copy.tif": PIXELS["c"]}
    regions, store = build(tmp_path, images, {"a.png": "p", "b.png": "p", "d.png": "q", "e.png": "q"})
    found = find_leaks(split_by("a.png c.png d.png", "b.png e.png", "copy.tif").parts, regions, store)
    told = [
        ["patient p stands in 2 parts: train a.png; val b.png"],
        ["patient q stands in 2 parts: train d.png; val e.png"],
        ["same pixels", "train c.png; test copy.tif", "patients c, copy"],
    ]
    assert len(found) == len(told)
    for finding, texts in zip(found, told, strict=True):
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
def test_turned_copies_leak_and_changed_ones_do_not(tmp_path: Path, change: Change, leaks: bool) -> None:
    images = {f"{name}.png": PIXELS[name] for name in "ab"} | {"x.png": np.ascontiguousarray(change(PIXELS["a"]))}
    regions, store = build(tmp_path, images)
    assert bool(find_leaks(split_by("a.png", "b.png", "x.png").parts, regions, store)) == leaks
    assert bool(find_duplicates(store)) == leaks


def test_a_leak_through_three_parts_is_one_finding(tmp_path: Path) -> None:
    images = {f"{name}.png": PIXELS["a"] for name in "abcd"}
    regions, store = build(tmp_path, images, {"a.png": "p"})
    (finding,) = find_leaks(split_by("a.png b.png", "c.png", "d.png").parts, regions, store)
    assert "3 parts: train a.png, b.png; val c.png; test d.png" in finding.what


def test_regions_in_no_part_do_not_leak(tmp_path: Path) -> None:
    images = {f"{name}.png": PIXELS[name] for name in "abc"} | {"x.png": PIXELS["a"]}
    regions, store = build(tmp_path, images, {"a.png": "p", "x.png": "p"})
    assert find_leaks(split_by("a.png", "b.png", "c.png").parts, regions, store) == []


def test_many_names_are_cut_short(tmp_path: Path) -> None:
    images = {f"{i}.png": np.full((4, 4, 3), i, np.uint8) for i in range(9)}
    regions, store = build(tmp_path, images, dict.fromkeys(images, "p"))
    split = Split("declared", "", ("0.png", "1.png", "2.png", "3.png", "4.png", "5.png"), ("6.png",), ("7.png",))
    (finding,) = find_leaks(split.parts, regions, store)
    assert "train 0.png, 1.png, 2.png, 3.png, and 2 more; val 6.png" in finding.what


def test_copies_inside_one_part_are_a_warning_only(tmp_path: Path) -> None:
    images = {f"{name}.png": PIXELS[name] for name in "abc"} | {"x.png": PIXELS["a"], "y.png": PIXELS["a"][::-1]}
    regions, store = build(tmp_path, images)
    assert find_leaks(split_by("a.png x.png y.png", "b.png", "c.png").parts, regions, store) == []
    (warning,) = find_duplicates(store)
    assert warning.where == "a.png" and "x.png, y.png" in warning.what


def make_tcga(hospitals: str) -> tuple[RegionSet, list[str]]:
    names = [f"TCGA-{one}-A{i:03d}-DX1.png" for i, one in enumerate(hospitals.split())]
    root = Path("/data")
    regions = tuple(Region(name, root / name, root / name, name[:12]) for name in sorted(names))
    return RegionSet("x", root, {1: "a"}, (), regions, None), names


@pytest.mark.parametrize(
    ("hospitals", "told"),
    [
        ("A1 A2 A7", ""),
        ("A1 A1 A7", "train and val share 1 hospital (A1); test shares none."),
        ("A1 A2 A1", "train and test share 1 hospital (A1)."),
        ("A1 A1 A1", "train and val and test share 1 hospital (A1)."),
    ],
)
def test_shared_hospitals_are_described(hospitals: str, told: str) -> None:
    regions, names = make_tcga(hospitals)
    assert describe_hospitals(split_by(*names), regions) == told


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


def test_real_crops_have_no_equal_pixels(shared_data: Path, tmp_path: Path) -> None:
    regions = read_regions(shared_data / "he_tumour")
    store = RegionStore.build(regions, 64, tmp_path)
    split = make_split(regions, class_presence=store.class_presence())
    assert find_leaks(split.parts, regions, store) == [] and find_duplicates(store) == []
    assert describe_hospitals(split, regions) == ""

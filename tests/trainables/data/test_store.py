import json
import os
import pickle
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from sam2.utils.transforms import SAM2Transforms
from torchvision.transforms import Resize, ToTensor

from trainables.data import store as store_module
from trainables.data.images import digest_pixels, read_image, read_mask
from trainables.data.regions import RegionSet, read_regions
from trainables.data.store import RegionStore
from trainables.data.store_writer import resize_image
from trainables.errors import DataError
from trainables.tiles.grid import Window

SIZES = {"a.png": (40, 64), "b.png": (16, 16), "c.png": (70, 33)}


Write = Callable[..., RegionSet]


@pytest.fixture(scope="module")
def write_set(write_regions: Write) -> Write:
    def write(root: Path, seed: int = 0) -> RegionSet:
        rng = np.random.default_rng(seed)
        images = {name: rng.integers(0, 256, (*size, 3), np.uint8) for name, size in SIZES.items()}
        masks = {name: rng.integers(0, 3, size, np.uint8) for name, size in SIZES.items()}
        text = "classes: {2: b, 1: a}\nignore: [0]\npatients: {a.png: p, b.png: p}"
        return write_regions(root, masks, images, text)

    return write


@pytest.fixture(scope="module")
def regions(write_set: Write, tmp_path_factory: pytest.TempPathFactory) -> RegionSet:
    return write_set(tmp_path_factory.mktemp("set"))


@pytest.fixture(scope="module")
def store(regions: RegionSet, tmp_path_factory: pytest.TempPathFactory) -> RegionStore:
    return RegionStore.build(regions, 32, tmp_path_factory.mktemp("cache"))


def test_store_describes_its_regions(store: RegionStore, regions: RegionSet) -> None:
    assert store.names == tuple(SIZES) and store.patients == ("p", "p", "c") and len(store) == 3
    assert list(store.classes.items()) == [(1, "a"), (2, "b")] and store.ignore_ids == (0,)
    assert store.image_size == 32 and len(store.fingerprint) == 12 and int(store.fingerprint, 16) >= 0
    assert [store.size(store.index(name)) for name in SIZES] == list(SIZES.values())
    assert store.class_presence() == dict.fromkeys(SIZES, frozenset({1, 2}))
    assert store.pixel_digests == tuple(digest_pixels(read_image(region.image)) for region in regions.regions)
    assert len(set(store.pixel_digests)) == 3
    with pytest.raises(KeyError):
        store.index("d.png")


@pytest.mark.parametrize("i", [0, 1, 2, -1])
def test_pixels_are_those_of_the_files(store: RegionStore, regions: RegionSet, i: int) -> None:
    pixels, mask = read_image(regions.regions[i].image), read_mask(regions.regions[i].mask)
    np.testing.assert_array_equal(store.image(i), Resize((32, 32))(ToTensor()(pixels)).numpy())
    np.testing.assert_array_equal(store.mask(i), mask)
    nearest = cv2.resize(mask, (32, 32), interpolation=cv2.INTER_NEAREST_EXACT)
    np.testing.assert_array_equal(store.mask_resized(i), nearest)
    assert store.class_pixels[i].tolist() == [(mask == 1).sum(), (mask == 2).sum()]


@pytest.mark.parametrize("image_size", [8, 16, 32])
def test_pictures_are_the_images_in_8_bits(write_set: Write, tmp_path: Path, image_size: int) -> None:
    regions = write_set(tmp_path / "set")
    for for_tiles in (False, True):
        store = RegionStore.build(regions, image_size, tmp_path / "cache", for_tiles=for_tiles)
        for i, size in enumerate(map(store.size, range(len(store)))):
            expected = (store.image(i).transpose(1, 2, 0) * 255).round()
            np.testing.assert_array_equal(store.picture(i), expected)
            if for_tiles and min(size) >= image_size:  # a window of the model's own size is not resized
                window = Window(1, 0, image_size, image_size)
                np.testing.assert_array_equal(
                    store.picture(i, window), (store.image(i, window).transpose(1, 2, 0) * 255).round()
                )


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*")  # sam2 scripts its transforms
@pytest.mark.parametrize("i", [0, 1, 2])
@pytest.mark.parametrize("image_size", [8, 16, 32, 100])
def test_images_equal_sam2s_own_transforms(regions: RegionSet, tmp_path: Path, image_size: int, i: int) -> None:
    transforms = SAM2Transforms(image_size, mask_threshold=0.0)
    image = torch.from_numpy(RegionStore.build(regions, image_size, tmp_path).image(i).copy())
    mean, std = (torch.tensor(one)[:, None, None] for one in (transforms.mean, transforms.std))
    normalized = (image - mean) / std
    expected = transforms(read_image(regions.regions[i].image))
    torch.testing.assert_close(normalized, expected, rtol=0, atol=1e-6)


def test_arrays_are_read_only_plain_views(store: RegionStore) -> None:
    for array in (store.mask(1), store.class_pixels):
        assert type(array) is np.ndarray and not array.flags.writeable and array.base is not None
    with pytest.raises(IndexError):
        store.mask(3)


def test_pickle_carries_the_folder_alone(store: RegionStore) -> None:
    data = pickle.dumps(store)
    copy = pickle.loads(data)
    assert len(data) < 500 and copy.folder == store.folder
    np.testing.assert_array_equal(copy.image(2), store.image(2))


def test_second_build_opens_the_first_unless_something_changed(write_set: Write, tmp_path: Path) -> None:
    regions = write_set(tmp_path / "set")
    first = RegionStore.build(regions, 16, tmp_path / "cache")
    stamp = (first.folder / "pixels.npy").stat().st_mtime_ns
    again = RegionStore.build(regions, 16, tmp_path / "cache")
    assert again.folder == first.folder and (again.folder / "pixels.npy").stat().st_mtime_ns == stamp
    assert RegionStore.build(regions, 8, tmp_path / "cache").fingerprint == first.fingerprint
    changed = RegionStore.build(write_set(tmp_path / "set", seed=1), 16, tmp_path / "cache")
    assert changed.fingerprint != first.fingerprint and (changed.image(0) != first.image(0)).any()
    assert len(list((tmp_path / "cache").iterdir())) == 3


def test_fingerprint_ignores_the_folder_not_the_rest(write_set: Write, tmp_path: Path, store: RegionStore) -> None:
    regions = write_set(tmp_path / "elsewhere")
    assert RegionStore.build(regions, 8, tmp_path / "cache").fingerprint == store.fingerprint
    yaml = tmp_path / "elsewhere" / "dataset.yaml"
    for text in ("classes: {1: a, 2: c}\nignore: [0]", "classes: {1: a, 2: b}"):
        yaml.write_text(text)
        other = RegionStore.build(read_regions(yaml.parent), 8, tmp_path / "cache")
        assert other.fingerprint != store.fingerprint
    yaml.write_text("classes: {1: a, 2: b}\nignore: [0]")
    other = RegionStore.build(read_regions(yaml.parent), 8, tmp_path / "cache")
    assert other.fingerprint == store.fingerprint and other.patients == ("a", "b", "c")


def test_each_file_is_read_once(write_set: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    regions = write_set(tmp_path / "set")
    read: list[Path] = []
    original = Path.read_bytes

    def count(path: Path) -> bytes:
        read.append(path)
        return original(path)

    monkeypatch.setattr(Path, "read_bytes", count)
    RegionStore.build(regions, 8, tmp_path / "cache")
    assert len(read) == len(set(read)) == 6


def test_build_reports_all_findings_and_leaves_nothing_behind(write_set: Write, tmp_path: Path) -> None:
    regions = write_set(tmp_path / "set")
    (tmp_path / "set" / "images" / "c.png").write_bytes(b"")
    Image.new("L", (64, 40), 9).save(tmp_path / "set" / "masks" / "a.png")
    with pytest.raises(DataError) as caught:
        RegionStore.build(regions, 8, tmp_path / "cache")
    assert [Path(finding.where).name for finding in caught.value.findings] == ["c.png", "a.png"]
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize("damage", ["no index", "bad index", "old version", "short array", "other shape"])
def test_damaged_store_is_built_again(write_set: Write, tmp_path: Path, store: RegionStore, damage: str) -> None:
    folder = tmp_path / store.folder.name
    shutil.copytree(store.folder, folder)
    index, images = folder / "index.json", folder / "pixels.npy"
    if damage == "no index":
        index.unlink()
    elif damage == "bad index":
        index.write_text("[1, 2")
    elif damage == "old version":
        index.write_text(json.dumps(json.loads(index.read_text()) | {"version": 0}))
    elif damage == "short array":
        images.write_bytes(images.read_bytes()[:-1])
    else:
        np.save(images, np.zeros((8, 3), np.uint8))
    with pytest.raises(DataError, match="no complete region store"):
        RegionStore(folder)
    rebuilt = RegionStore.build(write_set(tmp_path / "set"), 32, tmp_path)
    assert rebuilt.folder == folder
    np.testing.assert_array_equal(rebuilt.image(0), store.image(0))


@pytest.mark.parametrize("image_size", [8, 32])
def test_windows_are_cut_from_the_regions_own_pixels(regions: RegionSet, tmp_path: Path, image_size: int) -> None:
    store = RegionStore.build(regions, image_size, tmp_path, for_tiles=True)
    for i, region in enumerate(regions.regions):
        pixels, mask = read_image(region.image), read_mask(region.mask)
        height, width = mask.shape
        window = Window(height - 6, 2, 9, 7)  # three rows beyond the region are its mirror image
        rows = [*range(height - 6, height), height - 1, height - 2, height - 3]
        np.testing.assert_array_equal(store.image(i, window), resize_image(pixels[rows][:, 2:9], image_size))
        nearest = cv2.resize(mask[rows][:, 2:9], (image_size, image_size), interpolation=cv2.INTER_NEAREST_EXACT)
        np.testing.assert_array_equal(store.mask_resized(i, window), nearest)
        np.testing.assert_array_equal(store.image(i), resize_image(pixels, image_size))


def test_a_store_of_squares_has_no_windows(regions: RegionSet, tmp_path: Path) -> None:
    store = RegionStore.build(regions, 8, tmp_path)
    assert not store.for_tiles and np.load(store.folder / "squares.npy").shape == (2, 3, 8, 8)
    with pytest.raises(ValueError, match="not built for tiles"):
        store.image(0, Window(0, 0, 4, 4))
    assert RegionStore.build(regions, 8, tmp_path, for_tiles=True).folder != store.folder


def test_scales_are_kept_with_their_source(write_regions: Callable[..., RegionSet], tmp_path: Path) -> None:
    masks = {name: np.ones((8, 8), np.uint8) for name in ("a.png", "b_MPP-0.5000.png", "c.png", "d.png")}
    root = tmp_path / "set"
    write_regions(root, masks, text="classes: {1: a}")
    for name, dpi in (("c.png", 25_400 / 2), ("d.png", 96)):  # 2 um a pixel, and a screen's
        with Image.open(root / "images" / name) as picture:
            picture.copy().save(root / "images" / name, dpi=(dpi, dpi))
    plain = RegionStore.build(read_regions(root), 8, tmp_path / "cache")
    assert plain.scales == ((0, ""), (0.5, "file names"), (pytest.approx(2, rel=1e-4), "resolution tags"), (0, ""))
    (root / "dataset.yaml").write_text("classes: {1: a}\num_per_px: {a.png: 0.25, c.png: 1}")
    declared = RegionStore.build(read_regions(root), 8, tmp_path / "cache")
    assert [scale.um_per_px for scale in declared.scales] == [0.25, 0.5, 1, 0]
    assert declared.fingerprint != plain.fingerprint


def test_several_may_build_at_once(write_set: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    regions = write_set(tmp_path / "set")
    written = threading.Barrier(3)  # nobody publishes before everybody has written
    write_store = store_module.write_store

    def write_and_wait(*arguments: Any) -> str:
        fingerprint = write_store(*arguments)
        written.wait(30)
        return fingerprint

    monkeypatch.setattr(store_module, "write_store", write_and_wait)
    with ThreadPoolExecutor(3) as pool:
        stores = list(pool.map(lambda _: RegionStore.build(regions, 64, tmp_path / "cache"), range(3)))
    assert len({store.folder for store in stores}) == len(list((tmp_path / "cache").iterdir())) == 1
    np.testing.assert_array_equal(stores[0].image(2), stores[2].image(2))


@pytest.mark.parametrize(("age_h", "kept"), [(1, True), (100, False)])
def test_abandoned_builds_are_removed_after_a_while(write_set: Write, tmp_path: Path, age_h: float, kept: bool) -> None:
    left = tmp_path / "cache" / ".building-x"
    left.mkdir(parents=True)
    (left / "pixels.npy").write_bytes(b"x")
    then = time.time() - age_h * 3600
    os.utime(left / "pixels.npy", (then, then))
    os.utime(left, (then, then))
    RegionStore.build(write_set(tmp_path / "set"), 8, tmp_path / "cache")
    assert left.exists() == kept


def test_opening_needs_no_torch(store: RegionStore) -> None:
    code = (
        "import sys; from pathlib import Path; from trainables.data.store import RegionStore\n"
        "RegionStore(Path(sys.argv[1])).mask(0); sys.exit('torch' in sys.modules)"
    )
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run([sys.executable, "-c", code, str(store.folder)], cwd=root, timeout=60, check=False)
    assert done.returncode == 0

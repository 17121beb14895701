import errno
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainables.data import checks, store_writer
from trainables.data.regions import RegionSet
from trainables.data.store import RegionStore
from trainables.data.store_writer import plan_layout
from trainables.errors import DataError


@pytest.fixture
def regions(write_regions: Callable[..., RegionSet], tmp_path: Path) -> RegionSet:
    return write_regions(tmp_path / "set", {f"{one}.png": np.full((5 + one, 7), 1, np.uint8) for one in range(3)})


@pytest.mark.parametrize("image_size", [8, 64])
def test_a_store_takes_the_room_that_it_is_said_to_take(regions: RegionSet, tmp_path: Path, image_size: int) -> None:
    built = RegionStore.build(regions, image_size, tmp_path / "cache")
    taken = sum(path.stat().st_size for path in built.folder.glob("*.npy"))
    assert taken == plan_layout(regions, image_size).count_bytes() + 3 * 128  # a header per array


def test_room_is_allocated_before_decoding(regions: RegionSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: int) -> None:
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    regions.regions[1].mask.write_bytes(b"")
    with pytest.raises(DataError) as caught:
        RegionStore.build(regions, 8, tmp_path / "cache")
    full, empty = caught.value.findings
    assert full.where == str(tmp_path / "cache") and "Disk quota exceeded" in full.what
    assert empty.where.endswith("1.png") and list((tmp_path / "cache").iterdir()) == []


def test_unallocated_stores_are_the_same(regions: RegionSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = RegionStore.build(regions, 8, tmp_path / "cache")
    monkeypatch.delattr(os, "posix_fallocate")
    built = RegionStore.build(regions, 8, tmp_path / "other")
    for path in expected.folder.iterdir():
        assert (built.folder / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("height", [3, 9], ids=["smaller", "larger"])
def test_a_mask_that_changes_during_the_build_is_reported(
    regions: RegionSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, height: int
) -> None:
    counted = store_writer.read_size

    def count_then_change(path: Path) -> tuple[int, int] | None:
        size = counted(path)
        for folder, pixels in (
            ("images", np.zeros((height, 7, 3), np.uint8)),
            ("masks", np.ones((height, 7), np.uint8)),
        ):
            Image.fromarray(pixels).save(path.parent.parent / folder / path.name)
        return size

    monkeypatch.setattr(store_writer, "read_size", count_then_change)
    with pytest.raises(DataError, match="changed while it was read"):
        RegionStore.build(regions, 8, tmp_path / "cache")


def test_a_mask_whose_header_claims_too_much_takes_no_room(
    regions: RegionSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = plan_layout(regions, 8).count_bytes()
    monkeypatch.setattr(store_writer, "read_size", lambda path: (100_000, 100_000) if path.stem == "1" else (5, 7))
    assert plan_layout(regions, 8).count_bytes() < before


def test_processes_write_the_same_store(regions: RegionSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = RegionStore.build(regions, 8, tmp_path / "cache", for_tiles=True)
    monkeypatch.setattr(checks, "_FEW_PIXELS", 0)
    monkeypatch.setattr(checks, "read_size", None)  # the layout has the sizes: no mask's header is read again
    built = RegionStore.build(regions, 8, tmp_path / "other", for_tiles=True, cores=2)
    for path in expected.folder.iterdir():
        assert (built.folder / path.name).read_bytes() == path.read_bytes()
    regions.regions[1].mask.write_bytes(b"")
    with pytest.raises(DataError, match="0 bytes"):
        RegionStore.build(regions, 8, tmp_path / "third", cores=2)
    assert not list((tmp_path / "third").iterdir())

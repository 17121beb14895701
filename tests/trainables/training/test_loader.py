import multiprocessing
import pickle
import shutil
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import cv2
import pytest
import torch
from threadpoolctl import threadpool_info
from training_regions import make_regions

from trainables.data.store import RegionStore
from trainables.training.batches import Batch, Key, TrainingRegions
from trainables.training.loader import BatchLoader, _use_one_core, count_fitting, draw_order


def start(regions: TrainingRegions, n_workers: int = 0) -> BatchLoader:
    return BatchLoader(regions, n_workers, pin_memory=False)


def are_equal(first: list[Batch], second: list[Batch]) -> bool:
    return len(first) == len(second) and all(
        torch.equal(value, getattr(other, name)) if isinstance(value, torch.Tensor) else value == getattr(other, name)
        for one, other in zip(first, second, strict=True)
        for name, value in vars(one).items()
    )


ORDERS = [[4, 1, 2, 0, 3], [1, 2, 0, 4, 3], [2, 4, 3, 0, 1]]  # what PyTorch's own shuffling drew


def test_an_epoch_is_the_same_however_and_whenever_it_is_loaded(tissue_store: RegionStore) -> None:
    """Several processes, loaded ahead, after another epoch, another fold, or a resume: all give the same batches."""
    regions, names = make_regions(tissue_store), tissue_store.names
    plain = [list(start(regions).load(epoch, names)) for epoch in range(3)]
    assert not are_equal(plain[0], plain[1])
    loader = start(regions, n_workers=2)
    assert are_equal(plain[0], list(loader.load(0, names)))
    workers = {process.pid for process in multiprocessing.active_children()}
    loader.begin(1, names)
    assert are_equal(plain[1], list(loader.load(1, names)))
    loader.begin(1, names)  # not what is asked for next
    assert are_equal(list(start(regions).load(2, names[:3])), list(loader.load(2, names[:3])))
    assert are_equal(plain[2], list(loader.load(2, names)))
    assert {process.pid for process in multiprocessing.active_children()} == workers and len(workers) == 2
    del loader
    assert not multiprocessing.active_children()


def test_nothing_is_drawn_from_the_generator_of_dropout(tissue_store: RegionStore) -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    list(start(make_regions(tissue_store)).load(0, tissue_store.names))
    assert torch.equal(torch.rand(3), expected)


def test_regions_reach_processes_that_start_afresh(tissue_store: RegionStore) -> None:
    regions = make_regions(tissue_store)
    assert torch.equal(pickle.loads(pickle.dumps(regions))[Key(0, 1)].image, regions[Key(0, 1)].image)


def test_every_region_comes_once_in_an_order_that_changes_and_is_that_of_earlier_searches(
    tissue_store: RegionStore,
) -> None:
    regions, names = make_regions(tissue_store, augment__kind="none"), tissue_store.names
    orders = [[key for batch in draw_order(regions, names, epoch) for key in batch] for epoch in range(3)]
    assert [[key.region for key in order] for order in orders] == ORDERS
    assert [[key.epoch for key in order] for order in orders] == [[0] * 5, [1] * 5, [2] * 5]
    assert [len(batch) for batch in draw_order(regions, names, 0)] == [2, 2, 1]
    images = torch.cat([batch.images for batch in start(regions).load(1, names)])
    for image, index in zip(images, ORDERS[1], strict=True):
        assert torch.equal(image, torch.from_numpy(tissue_store.picture(index)))


def count_threads() -> tuple[int, set[int]]:
    _use_one_core(0)
    return cv2.getNumThreads(), {library["num_threads"] for library in threadpool_info()}


def test_a_loading_process_keeps_to_one_core() -> None:
    with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as pool:
        assert pool.submit(count_threads).result() == (1, {1})


def test_as_many_loaders_start_as_shared_memory_has_room_for(
    tissue_store: RegionStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    regions = make_regions(tissue_store, prompts__max_objects=8)
    batch_bytes = 2 * 256 * 256 * (3 + 8 * (4 + 4) / 16)  # two images; a mask and its pixels that count an object
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=2 * batch_bytes + 1))
    loader = start(regions, n_workers=3)
    assert len(list(loader.load(0, tissue_store.names))) == 3
    assert len(multiprocessing.active_children()) == 1
    assert "1 of 3 loading processes start" in caplog.text


@pytest.mark.parametrize(("free", "n_workers", "fits"), [(10**4, 2, False), (10**4, 0, True), (10**9, 2, True)])
def test_loaders_need_shared_memory(
    tissue_store: RegionStore, free: int, n_workers: int, fits: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=free))
    assert count_fitting(make_regions(tissue_store), n_workers, tmp_path) == (n_workers if fits else 0)
    assert count_fitting(make_regions(tissue_store), n_workers, tmp_path / "none") == n_workers  # no such system

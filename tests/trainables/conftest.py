"""Fixtures of several test files: a few small regions of synthetic tissue, and their store at nano's size."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from sam2.modeling.sam2_base import SAM2Base

from trainables.context import TrialContext
from trainables.data.regions import read_regions
from trainables.data.store import RegionStore
from trainables.demo.tissue import DEMO_CLASSES, make_region
from trainables.model.weights import load_model
from trainables.protocol.spec import PROTOCOLS

N_TISSUE_REGIONS = 5


@pytest.fixture(scope="session")
def tissue_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five regions of 160 px, ``r0.png`` to ``r4.png``, in the layout of BCSS."""
    root = tmp_path_factory.mktemp("tissue")
    for folder in ("images", "masks"):
        (root / folder).mkdir()
    for seed in range(N_TISSUE_REGIONS):
        image, mask = make_region(np.random.default_rng(seed), side_px=160)
        Image.fromarray(image).save(root / "images" / f"r{seed}.png", compress_level=1)
        Image.fromarray(mask).save(root / "masks" / f"r{seed}.png")
    (root / "dataset.yaml").write_text(yaml.safe_dump({"classes": DEMO_CLASSES}))
    return root


@pytest.fixture(scope="session")
def tissue_store(tissue_root: Path, tmp_path_factory: pytest.TempPathFactory) -> RegionStore:
    """The regions, resized to nano's 256 px."""
    return RegionStore.build(read_regions(tissue_root), 256, tmp_path_factory.mktemp("stores"))


@pytest.fixture(scope="session")
def context(tissue_store: RegionStore) -> TrialContext:
    """One epoch of nano under ``recorded``, r0 to r2 for training; a file that needs others replaces fields."""
    return TrialContext(
        model="nano",
        checkpoint=None,
        store_folder=str(tissue_store.folder),
        train=tissue_store.names[:3],
        val=tissue_store.names[3:],
        protocol=PROTOCOLS["recorded"],
        max_epochs=1,
        seed=0,
        fixed={},
        n_workers=0,
    )


@pytest.fixture(scope="module")
def nano() -> SAM2Base:
    """nano with its own weights, in evaluation mode; its test file shares it and leaves it as it is."""
    return load_model("nano", None).eval()


@pytest.fixture
def write_store(tmp_path: Path) -> Callable[..., RegionStore]:
    """Makes stores of masks drawn by hand: masks by name, classes, ignored ids, side of the model."""

    def write(
        masks: Mapping[str, np.ndarray],
        classes: Mapping[int, str],
        ignore: tuple[int, ...] = (),
        side: int = 64,
    ) -> RegionStore:
        root = tmp_path / "drawn"
        for folder in ("images", "masks"):
            (root / folder).mkdir(parents=True)
        for seed, (name, mask) in enumerate(masks.items()):
            noise = np.random.default_rng(seed).integers(0, 120, (*mask.shape, 1), np.uint8)
            image = 60 + noise + (mask[..., None] * np.array([9, 5, 7])).clip(0, 70).astype(np.uint8)
            Image.fromarray(image).save(root / "images" / f"{name}.png")
            Image.fromarray(mask.astype(np.uint8)).save(root / "masks" / f"{name}.png")
        strays = {int(one) for mask in masks.values() for one in np.unique(mask)} - {0, *classes, *ignore}
        settings = {"classes": dict(classes), "ignore": list(ignore), "background": sorted(strays)}
        (root / "dataset.yaml").write_text(yaml.safe_dump(settings))
        return RegionStore.build(read_regions(root), side, tmp_path / "store")

    return write

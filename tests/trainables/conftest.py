"""Fixtures of several test files: a few small regions of synthetic tissue, and their store at nano's size."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from sam2.modeling.sam2_base import SAM2Base

from trainables.adapters.adapted_model import attach_adapters, save_adapters
from trainables.context import ADAPTER_FOLDER, RECIPE_FILE, TrialContext
from trainables.data.regions import RegionSet, read_regions
from trainables.data.store import RegionStore
from trainables.demo.tissue import DEMO_CLASSES, make_region
from trainables.model.weights import load_model
from trainables.protocol.spec import PROTOCOLS
from trainables.recipe import Recipe, Scalar


@pytest.fixture(scope="session")
def write_regions() -> Callable[..., RegionSet]:
    """Writes masks and images (pink by default), by file name, and perhaps a ``dataset.yaml`` into a folder."""

    def write(
        root: Path, masks: Mapping[str, np.ndarray], images: Mapping[str, np.ndarray] | None = None, text: str = ""
    ) -> RegionSet:
        pink = {name: np.full((*mask.shape, 3), (255, 192, 203), np.uint8) for name, mask in masks.items()}
        for folder, pictures in (("images", images or pink), ("masks", masks)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            for name, pixels in pictures.items():
                Image.fromarray(pixels).save(root / folder / name)
        if text:
            (root / "dataset.yaml").write_text(text)
        return read_regions(root)

    return write


@pytest.fixture(scope="session")
def tissue_root(write_regions: Callable[..., RegionSet], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five regions of 160 px, ``r0.png`` to ``r4.png``, in the layout of BCSS."""
    drawn = {f"r{seed}.png": make_region(np.random.default_rng(seed), side_px=160) for seed in range(5)}
    images, masks = ({name: pair[part] for name, pair in drawn.items()} for part in (0, 1))
    root = tmp_path_factory.mktemp("tissue")
    write_regions(root, masks, images, yaml.safe_dump({"classes": DEMO_CLASSES}))
    return root


@pytest.fixture(scope="session")
def tissue_store(tissue_root: Path, tmp_path_factory: pytest.TempPathFactory) -> RegionStore:
    """The regions, resized to nano's 256 px."""
    return RegionStore.build(read_regions(tissue_root), 256, tmp_path_factory.mktemp("stores"))


@pytest.fixture(scope="session")
def tiled_store(tissue_root: Path, tmp_path_factory: pytest.TempPathFactory) -> RegionStore:
    """The same regions in a store whose windows can be read."""
    return RegionStore.build(read_regions(tissue_root), 256, tmp_path_factory.mktemp("stores"), for_tiles=True)


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
def no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models are built without drawing weights, which takes longer than all else: for tests of names and shapes."""
    for name in ("kaiming_uniform_", "normal_", "trunc_normal_", "uniform_", "xavier_uniform_"):
        monkeypatch.setattr(torch.nn.init, name, lambda tensor, *_, **__: tensor)


@pytest.fixture
def write_store(write_regions: Callable[..., RegionSet], tmp_path: Path) -> Callable[..., RegionStore]:
    """Makes stores of masks drawn by hand: masks by name, classes, ignored ids, side of the model."""

    def write(
        masks: Mapping[str, np.ndarray],
        classes: Mapping[int, str],
        ignore: tuple[int, ...] = (),
        side: int = 64,
        for_tiles: bool = False,
    ) -> RegionStore:
        images = {}
        for seed, (name, mask) in enumerate(masks.items()):
            noise = np.random.default_rng(seed).integers(0, 120, (*mask.shape, 1), np.uint8)
            images[f"{name}.png"] = 60 + noise + (mask[..., None] * np.array([9, 5, 7])).clip(0, 70).astype(np.uint8)
        saved = {f"{name}.png": mask.astype(np.uint8) for name, mask in masks.items()}
        strays = {int(one) for mask in masks.values() for one in np.unique(mask)} - {0, *classes, *ignore}
        settings = {"classes": dict(classes), "ignore": list(ignore), "background": sorted(strays)}
        regions = write_regions(tmp_path / "drawn", saved, images, yaml.safe_dump(settings))
        return RegionStore.build(regions, side, tmp_path / "store", for_tiles=for_tiles)

    return write


@pytest.fixture
def offline_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """huggingface_hub as HF_HUB_OFFLINE=1 sets it up (it reads the variable when imported); adds hub ids to its cache.

    What is added is the folder of a snapshot, to be filled.
    """
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))

    def add(hub_id: str) -> Path:
        folder, commit = tmp_path / "hub" / f"models--{hub_id.replace('/', '--')}", "0" * 40
        (folder / "snapshots" / commit).mkdir(parents=True)
        (folder / "refs").mkdir()
        (folder / "refs" / "main").write_text(commit)
        return folder / "snapshots" / commit

    return add


@pytest.fixture
def make_checkpoint(tmp_path: Path) -> Callable[..., Path]:
    """Writes checkpoints of nano's adapters that noise of a seed and reach, in place of training, has moved."""

    def make(
        kind: str = "lora", name: str = "checkpoint", seed: int = 1, reach: float = 0.03, **fields: Scalar
    ) -> Path:
        folder = tmp_path / name
        values = {"adapter.kind": kind, "adapter.rank": 4, **{f"adapter.{key}": each for key, each in fields.items()}}
        recipe = Recipe.from_flat(values)
        adapted = attach_adapters(load_model("nano", None), recipe.adapter, seed=0)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for value in adapted.parameters():
                if value.requires_grad:
                    value += reach * torch.randn(value.shape, generator=generator)
        save_adapters(adapted, folder / ADAPTER_FOLDER)
        (folder / RECIPE_FILE).write_text(json.dumps(recipe.to_flat()))
        return folder

    return make

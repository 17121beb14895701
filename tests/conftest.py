"""What holds for all tests: no usage reports, one thread a library, and data that several folders need."""

from __future__ import annotations

import gc
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import search  # noqa: F401  (switches usage reports off before a test file imports ray, mlflow or albumentations)

if TYPE_CHECKING:
    from trainables.data.store import RegionStore

os.environ["OMP_NUM_THREADS"] = "1"  # read when torch is imported; tests gain nothing from more
# The shipped spaces come before the faults, as most of those wait for one search.
LONGEST_FIRST = ("jobs/spaces", "jobs", "trainables")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the folders with the longest tests first, so that of several processes none is left alone with one."""
    folders = [Path(__file__).parent / name for name in LONGEST_FIRST]
    items.sort(key=lambda item: next((place for place, folder in enumerate(folders) if folder in item.path.parents), 9))


def pytest_collection_finish() -> None:
    """Leaves all that was imported out of the collection of garbage, which else takes a third of a second each time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data that may lie beside the project; without it the test is skipped."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("needs ../shared/data, which is not beside the project")
    return folder


@pytest.fixture
def ray_stays_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails a test that starts Ray; other tests of the same process may have started it before."""
    monkeypatch.setattr("ray.init", lambda *_, **__: pytest.fail("Ray was started"))
    monkeypatch.setattr("ray.is_initialized", lambda: False)


@pytest.fixture(scope="session")
def demo_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo as users get it (seed 0, 108 regions of 320 px), made once: to be read, not changed."""
    from trainables.demo.tissue import write_demo

    root = tmp_path_factory.mktemp("data") / "demo"
    write_demo(root)
    return root


@pytest.fixture(scope="session")
def small_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of seven regions of synthetic tissue (160 px, one a patient), to be read, not changed."""
    from tissue_set import write_tissue

    root = tmp_path_factory.mktemp("small") / "data"
    write_tissue(root, side_px=160, n_train=3, n_val=2, n_test=2)
    return root


@pytest.fixture(scope="session")
def small_store(small_root: Path, tmp_path_factory: pytest.TempPathFactory) -> RegionStore:
    """Its regions, decoded for nano."""
    from trainables.data.regions import read_regions
    from trainables.data.store import RegionStore

    return RegionStore.build(read_regions(small_root), 256, tmp_path_factory.mktemp("stores"))


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database with its tables made, which takes seconds: tests work on copies."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture(scope="session")
def make_work_folder(
    tmp_path_factory: pytest.TempPathFactory, small_root: Path, empty_store: Path
) -> Callable[[str], Path]:
    """Makes working directories for searches: the small data set as ``data``, and an empty MLflow database."""

    def make(name: str) -> Path:
        folder = tmp_path_factory.mktemp(name)
        shutil.copytree(small_root, folder / "data")
        shutil.copy(empty_store, folder / "mlflow.db")
        return folder

    return make


@pytest.fixture
def work_folder(make_work_folder: Callable[[str], Path]) -> Path:
    """A working directory for searches: the small data set as ``data``, and an empty MLflow database."""
    return make_work_folder("work")


@pytest.fixture(scope="session")
def start_local_ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], None]]:
    """Starts Ray once for all tests of this process, where neither RAY_ADDRESS nor TMPDIR is of any use."""
    import ray

    from search.cluster.start import start_ray

    nowhere = tmp_path_factory.mktemp("a temporary folder whose name is too long for sockets below it")

    def start() -> None:
        if not ray.is_initialized():
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("RAY_ADDRESS", "127.0.0.1:9")  # of no cluster: a local start must not look there
                patch.setenv("TMPDIR", str(nowhere))
                patch.delenv("RAY_TMPDIR", raising=False)
                start_ray(None)

    yield start
    ray.shutdown()
    assert not list(nowhere.iterdir())


@pytest.fixture
def local_ray(start_local_ray: Callable[[], None]) -> None:
    """Ray on this machine; again, where a test of a whole search has shut it down."""
    start_local_ray()


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP of 32 px as a folder that open_clip loads: its configuration, and random weights."""
    import json

    import open_clip
    import torch
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("clip") / "tiny"
    folder.mkdir()
    config = {
        "embed_dim": 32,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
        "text_cfg": {"context_length": 24, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
    }
    prepared = {"mean": [0.5, 0.25, 0.75], "std": [0.25, 0.25, 0.25]}
    settings = {"model_cfg": config, "preprocess_cfg": prepared}
    (folder / "open_clip_config.json").write_text(json.dumps(settings))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = open_clip.CLIP(**config)
    save_file(network.state_dict(), folder / "open_clip_model.safetensors")
    return folder


@pytest.fixture(scope="session")
def tiny_sam1_file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Random weights of a fourth size of the first SAM, ``vit_t``: image encoder of width 32 and depth 2 at 256 px.

    The size is registered where the published ones are, so that its weights take the same way.
    """
    segment_anything = pytest.importorskip("segment_anything", reason="needs the package segment-anything")
    from functools import partial

    import torch

    from trainables.evaluation.sam1_weights import SIZES

    modeling = segment_anything.modeling

    def build() -> torch.nn.Module:
        encoder = modeling.ImageEncoderViT(
            img_size=256,
            embed_dim=32,
            depth=2,
            num_heads=4,
            norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
            use_rel_pos=True,
            window_size=14,
            global_attn_indexes=(1,),
        )
        prompts = modeling.PromptEncoder(256, (16, 16), (256, 256), 16)
        decoder = modeling.MaskDecoder(
            transformer_dim=256, transformer=modeling.TwoWayTransformer(2, 256, 8, 2048), iou_head_hidden_dim=256
        )
        return modeling.Sam(encoder, prompts, decoder)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build()
    path = tmp_path_factory.mktemp("sam1") / "tiny.pth"
    torch.save(network.state_dict(), path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(segment_anything.sam_model_registry, "vit_t", build)
        patch.setitem(SIZES, 32, "vit_t")
        yield path

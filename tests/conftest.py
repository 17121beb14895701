"""What holds for all tests: no usage reports, one thread a library, and data that several folders need."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import search  # noqa: F401  (switches usage reports off before a test file imports ray, mlflow or albumentations)

os.environ["OMP_NUM_THREADS"] = "1"  # read when torch is imported; tests gain nothing from more


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data that may lie beside the project; without it the test is skipped."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("needs ../shared/data, which is not beside the project")
    return folder


@pytest.fixture(scope="session")
def demo_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo as users get it (seed 0, 60 regions of 320 px), made once: to be read, not changed."""
    from trainables.demo.tissue import write_demo

    root = tmp_path_factory.mktemp("data") / "demo"
    write_demo(root)
    return root


@pytest.fixture(scope="session")
def make_work_folder(tmp_path_factory: pytest.TempPathFactory, demo_root: Path) -> Callable[[str], Path]:
    """Makes working directories for searches, in whose storage ``runs`` the demo is drawn already."""

    def make(name: str) -> Path:
        folder = tmp_path_factory.mktemp(name)
        shutil.copytree(demo_root, folder / "runs" / ".cache" / "demo-tissue")
        return folder

    return make


@pytest.fixture
def work_folder(make_work_folder: Callable[[str], Path]) -> Path:
    """A working directory for searches, in whose storage ``runs`` the demo is drawn already."""
    return make_work_folder("work")


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
def tiny_sam1_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of the first SAM's parts, with an image encoder of width 32 and depth 2 at 256 px."""
    segment_anything = pytest.importorskip("segment_anything", reason="needs the package segment-anything")
    from functools import partial

    import torch

    modeling = segment_anything.modeling
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
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
        network = modeling.Sam(encoder, prompts, decoder)
    path = tmp_path_factory.mktemp("sam1") / "tiny.pth"
    torch.save(network.state_dict(), path)
    return path

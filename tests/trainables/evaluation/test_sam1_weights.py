import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from trainables.errors import CheckpointError
from trainables.evaluation.sam1_weights import STYLES, load_sam1
from trainables.model.build import MODELS, build_architecture
from trainables.protocol.spec import PROTOCOLS

pytest.importorskip("segment_anything", reason="needs the package segment-anything")

SAM = STYLES["sam"]
State = dict[str, Tensor]


@pytest.fixture
def state(tiny_sam1_file: Path) -> State:
    """A copy that a test may change."""
    return dict(torch.load(tiny_sam1_file, weights_only=True))


def refuse(path: Path) -> Any:
    with pytest.raises(CheckpointError) as raised:
        load_sam1(path, SAM)
    assert len(raised.value.findings) == 1 and raised.value.findings[0].where == str(path)
    return raised.value.findings[0]


@pytest.mark.parametrize(
    ("file", "save"),
    [
        ("bare.pth", torch.save),
        ("training.pth", lambda state, path: torch.save({"model": state, "epoch": 3}, path)),
        ("sam.safetensors", save_file),
        ("ddp.pth", lambda state, path: torch.save({"net": {f"module.{name}": state[name] for name in state}}, path)),
    ],
)
def test_what_is_saved_is_loaded(state: State, tmp_path: Path, file: str, save: Callable[[Any, Path], object]) -> None:
    path = tmp_path / file
    save(state, path)
    model = load_sam1(path, SAM)
    loaded = model.network.state_dict()
    assert set(loaded) == set(state) and all(torch.equal(loaded[name], state[name]) for name in state)
    assert model.size == "ViT-T" and len(model.notes) == 2 * (file == "ddp.pth")
    assert not model.network.training and not any(one.requires_grad for one in model.network.parameters())


def test_medsam_s_images_are_not_normalized_by_color(tiny_sam1_file: Path) -> None:
    pixels = torch.rand(1, 3, 256, 256)
    assert torch.equal(load_sam1(tiny_sam1_file, STYLES["medsam"]).network.preprocess(pixels), pixels)
    assert not torch.equal(load_sam1(tiny_sam1_file, SAM).network.preprocess(pixels), pixels)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("missing", "no such file"),
        ("cut short", "cannot be read as weights"),
        ("flipped byte", "the checksum does not fit"),
        ("nan", "NaN or infinite: image_encoder.pos_embed (8,192 of"),
    ],
)
def test_damaged_files_are_refused(state: State, tmp_path: Path, fault: str, words: str) -> None:
    path, name = tmp_path / "sam.pth", "image_encoder.pos_embed"
    if fault == "nan":
        state[name] = torch.full_like(state[name], float("nan"))
    torch.save(state, path)
    content = bytearray(path.read_bytes())
    if fault == "missing":
        path.unlink()
    elif fault == "cut short":
        path.write_bytes(content[: len(content) // 2])
    elif fault == "flipped byte":
        content[len(content) // 2] ^= 0xFF
        path.write_bytes(content)
    assert words in refuse(path).what


@pytest.mark.parametrize("content", [{"model": [1, 2]}, {}, [torch.zeros(2)]])
def test_files_without_weights_are_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "odd.pth")
    finding = refuse(tmp_path / "odd.pth")
    assert "holds no state dictionary" in finding.what and "SAM2" not in finding.fix


@pytest.mark.parametrize("name", ["nano", "tiny"])
def test_a_sam2_checkpoint_is_named_as_such(tmp_path: Path, name: str) -> None:
    torch.save({"model": build_architecture(MODELS[name], 256).state_dict()}, tmp_path / "sam2.pt")
    finding = refuse(tmp_path / "sam2.pt")
    assert finding.what == f"is a SAM2 checkpoint ({name})" and f"--model {name}" in finding.fix


def drop(name: str) -> Callable[[State], object]:
    return lambda state: state.pop(name)


def put(name: str, *shape: int) -> Callable[[State], object]:
    return lambda state: state.update({name: torch.zeros(*shape)})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (drop("mask_decoder.iou_token.weight"), "1 weights missing (first: mask_decoder.iou_token.weight)"),
        (put("extra", 2), "1 weights unknown (first: extra)"),
        (put("mask_decoder.iou_token.weight", 1, 128), "1 weights of another shape (first: mask_decoder.iou_token"),
        (drop("image_encoder.blocks.1.attn.rel_pos_h"), "1 weights missing"),
        (put("image_encoder.pos_embed", 1, 8, 8, 32), "does not fit ViT-T at 256 px: 1 weights of another shape"),
        (put("image_encoder.pos_embed", 1, 16, 16, 48), "is not a SAM"),  # no published width
        (put("image_encoder.pos_embed", 32), "is not a SAM"),
        (put("image_encoder.blocks.0.Adapter.channel.0.weight", 8, 32), "as SAM-Med2D has"),
    ],
)
def test_weights_must_fit(state: State, tmp_path: Path, change: Callable[[State], object], words: str) -> None:
    change(state)
    torch.save(state, tmp_path / "sam.pth")
    assert words in refuse(tmp_path / "sam.pth").what


@pytest.mark.parametrize(
    ("first", "words"),
    [
        ("vision_encoder.pos_embed", "transformers"),
        ("image_encoder.layers.0.blocks.0.conv1.c.weight", "TinyViT"),
        ("conv1.weight", "is not a SAM (1 weights, first: conv1.weight)"),
    ],
)
def test_strangers_are_named(tmp_path: Path, first: str, words: str) -> None:
    torch.save({first: torch.zeros(2)}, tmp_path / "other.pth")
    assert words in refuse(tmp_path / "other.pth").what


def test_without_the_package_one_line_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    finding = refuse(tmp_path / "sam.pth")
    assert "not installed" in finding.what and "pip install segment-anything" in finding.fix


@pytest.mark.parametrize(
    ("style", "protocol", "number"),
    [("sam", "points", 0), ("medsam", "box", 1), ("medsam", "box-neg", 2), ("medsam", "centroid", 2)],
)
def test_a_style_says_where_it_departs_from_a_protocol(style: str, protocol: str, number: int) -> None:
    assert len(STYLES[style].list_caveats(PROTOCOLS[protocol])) == number

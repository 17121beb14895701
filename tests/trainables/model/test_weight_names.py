from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from sam2.modeling.sam2_base import SAM2Base
from torch import Tensor

from trainables.errors import CheckpointError
from trainables.export.transformers_folder import describe_model
from trainables.model.build import MODELS, build_architecture
from trainables.model.forward import decode_prompts, encode_images, normalize_images
from trainables.model.weight_names import adopt_names
from trainables.model.weights import list_misfits, load_with_notes

NANO = MODELS["nano"]
State = dict[str, Tensor]


@pytest.fixture
def state(nano: SAM2Base) -> State:
    return {name: value + 0.5 for name, value in nano.state_dict().items()}


def put_in_front(state: State, prefix: str) -> State:
    return {f"{prefix}{name}": value for name, value in state.items()}


@pytest.mark.parametrize(
    ("wrap", "note"),
    [
        (lambda state: {"model": put_in_front(state, "module.")}, "names were read without 'module.' in front"),
        (lambda state: put_in_front(state, "_orig_mod."), "without those of the modules that torch.compile or FSDP"),
        (lambda state: put_in_front(state, "module._orig_mod."), "without 'module.' in front"),
        (lambda state: {"model_state_dict": state, "epoch": 3}, "weights were read from its key 'model_state_dict'"),
        (
            lambda state: {
                "state_dict": {**put_in_front(state, "model."), "loss.weight": torch.ones(2)},
                "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(1)}}}],
            },
            "key 'state_dict'; its names were read without 'model.' in front, and 1 weight without it left out",
        ),
        (
            lambda state: {"model": state, "best": np.float64(0.7), "args": Namespace(lr=0.1, out=Path("out"))},
            "what it holds beside the weights was left out (argparse.Namespace, numpy",
        ),
        (lambda state: put_in_front(state, "net.sam2."), "without 'net.sam2.' in front"),
        (
            lambda state: {
                name.replace("image_encoder.trunk", "vision_encoder.backbone")
                .replace("image_encoder", "vision_encoder")
                .replace("sam_", ""): value
                for name, value in state.items()
            },
            "as those of Sam2Model in the package transformers",
        ),
    ],
)
def test_what_a_trainer_put_around_the_weights_is_taken_off_and_said(
    state: State, tmp_path: Path, wrap: Callable[[State], dict[str, Any]], note: str
) -> None:
    torch.save(wrap(state), tmp_path / "w.pt")
    model, notes = load_with_notes(NANO, tmp_path / "w.pt")
    assert note in "; ".join(notes)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("name", ["w.SAFETENSORS", "w.bin", "w.safetensors"])
def test_safetensors_are_known_by_their_bytes(state: State, tmp_path: Path, name: str) -> None:
    save_file(state, tmp_path / name)
    model, notes = load_with_notes(NANO, tmp_path / name)
    assert not notes and all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("wrap", "text"),
    [
        (lambda state: {"ema": state, "net": state}, "more than one state dictionary, under 'ema' and 'net'"),
        (
            lambda state: {**put_in_front(state, "model."), **put_in_front(state, "ema.")},
            "more than once, with 'model.' and 'ema.' in front of the names",
        ),
        (lambda state: {"epoch": 3, "args": {"lr": 1.0}}, "no state dictionary of tensors; its keys: epoch, args"),
        (lambda state: [state], "no state dictionary but a list"),
        (lambda state: {"model": state, "when": print}, r"run code \(builtins.print\).* -> if you trust it, save its"),
        (
            lambda state: {**state, "image_encoder.trunk.blocks.0.attn.qkv.lora_A.weight": torch.ones(1)},
            "-> its LoRA layers are not merged into the weights: merge them",
        ),
    ],
)
def test_what_cannot_be_read_is_named_with_what_to_do(
    state: State, tmp_path: Path, wrap: Callable[[State], object], text: str
) -> None:
    torch.save(wrap(state), tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match=text):
        load_with_notes(NANO, tmp_path / "w.pt")


def test_weights_of_transformers_give_the_masks_that_transformers_gives(nano: SAM2Base, tmp_path: Path) -> None:
    from transformers import Sam2Config, Sam2Model

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        theirs = Sam2Model(Sam2Config(**describe_model(nano))).eval()
        with torch.no_grad():
            for value in theirs.parameters():
                value += 0.05 * torch.randn(value.shape)
    theirs.save_pretrained(tmp_path)
    ours, notes = load_with_notes(NANO, tmp_path / "model.safetensors")
    assert "as those of Sam2Model in the package transformers" in notes[0] and "parts for video" in notes[1]
    image = torch.rand(1, 3, 256, 256, generator=torch.Generator().manual_seed(1))
    points, labels = torch.tensor([[[40.0, 50], [200, 180]]]), torch.tensor([[1, 0]], dtype=torch.int32)
    with torch.no_grad():
        wanted = theirs(pixel_values=normalize_images(image), input_points=points[None], input_labels=labels[None])
        features = encode_images(ours, image)
        found = decode_prompts(ours, features, torch.tensor([0]), points, labels)
    torch.testing.assert_close(found.logits, wanted.pred_masks[0], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(found.iou, wanted.iou_scores[0], rtol=1e-3, atol=1e-4)


@pytest.mark.usefixtures("no_weights")
def test_the_parts_for_video_of_transformers_are_read_too() -> None:
    from transformers import Sam2VideoConfig, Sam2VideoModel

    with torch.device("meta"):
        theirs = Sam2VideoModel(Sam2VideoConfig()).state_dict()
    tiny, notes = build_architecture(MODELS["tiny"]), list[str]()
    state = adopt_names(put_in_front(theirs, "model."), tiny.state_dict(), Path("w.pt"), notes)
    assert not list_misfits(tiny, state) and len(notes) == 2

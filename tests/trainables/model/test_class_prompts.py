import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from sam2.modeling.sam2_base import SAM2Base

from trainables.adapters.adapted_model import attach_adapters, count_parameters, get_base, merge_adapters, save_adapters
from trainables.errors import CheckpointError
from trainables.model.class_prompts import (
    CLASS_PROMPTS_FILE,
    attach_class_prompts,
    decode_classes,
    detach_class_prompts,
    find_class_prompts,
    load_class_prompts,
    save_class_prompts,
    start_class_prompts,
)
from trainables.model.forward import encode_images
from trainables.model.weights import load_model
from trainables.recipe import AdapterRecipe


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.rand(2, 3, 256, 256, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("n_classes", "n_tokens"), [(1, 1), (5, 3)])
def test_tokens_start_near_a_positive_point_and_differ(nano: SAM2Base, n_classes: int, n_tokens: int) -> None:
    tokens = start_class_prompts(nano, n_classes, n_tokens, seed=0).tokens
    positive = nano.sam_prompt_encoder.point_embeddings[1].weight[0].detach()
    assert tokens.shape == (n_classes + 1, n_tokens, len(positive)) and tokens.requires_grad
    assert float((tokens - positive).detach().std()) == pytest.approx(0.5 * float(positive.std()), rel=0.3)
    assert len({tuple(each) for each in tokens.detach().flatten(0, 1).tolist()}) == (n_classes + 1) * n_tokens
    again, other = (start_class_prompts(nano, n_classes, n_tokens, seed).tokens for seed in (0, 1))
    assert torch.equal(again, tokens) and not torch.equal(other, tokens)


def test_a_region_gets_the_same_answers_alone_and_in_a_batch(nano: SAM2Base, images: torch.Tensor) -> None:
    attach_class_prompts(nano, start_class_prompts(nano, 3, 2, seed=0))
    with torch.no_grad():
        both = decode_classes(nano, encode_images(nano, images))
        alone = decode_classes(nano, encode_images(nano, images[1:]))
        nano.train()
        training = decode_classes(nano, encode_images(nano, images[1:]))
        nano.eval()
    assert both.logits.shape == (2, 4, 64, 64) and both.objectness.shape == (2, 4)
    torch.testing.assert_close(both.logits[1:], alone.logits, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(training.logits, alone.logits)  # no other mask token in evaluation
    assert float((alone.logits[0, 0] - alone.logits[0, 1]).abs().max()) > 1e-3
    detach_class_prompts(nano)


def test_tokens_train_with_the_adapters_and_leave_stock_keys_behind(images: torch.Tensor, tmp_path: Path) -> None:
    bare = load_model("nano", None)
    stock = set(bare.state_dict())
    adapted = attach_adapters(bare, AdapterRecipe(rank=2), seed=0)
    before = count_parameters(adapted)[0]
    prompts = start_class_prompts(get_base(adapted), 2, 1, seed=0)
    attach_class_prompts(get_base(adapted), prompts)
    assert count_parameters(adapted)[0] == before + prompts.tokens.numel()
    decode_classes(get_base(adapted), encode_images(get_base(adapted), images[:1])).logits.square().mean().backward()
    assert prompts.tokens.grad is not None and bool(prompts.tokens.grad.flatten(1).abs().sum(1).gt(0).all())
    save_adapters(adapted, tmp_path)
    assert CLASS_PROMPTS_FILE not in {path.name for path in tmp_path.iterdir()}
    merged = merge_adapters(adapted)
    assert detach_class_prompts(merged) is prompts and find_class_prompts(merged) is None
    assert set(merged.state_dict()) == stock


def test_saving_and_loading_is_exact_and_tokens_become_32_bit_floats(nano: SAM2Base, tmp_path: Path) -> None:
    prompts = start_class_prompts(nano, 5, 4, seed=3)
    save_class_prompts(prompts, tmp_path)
    assert torch.equal(load_class_prompts(tmp_path).tokens, prompts.tokens)
    for kind in (torch.float64, torch.float16):
        save_file({"tokens": torch.ones(2, 1, 4, dtype=kind)}, tmp_path / CLASS_PROMPTS_FILE)
        assert load_class_prompts(tmp_path).tokens.dtype == torch.float32


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        (torch.full((2, 1, 4), torch.nan), "NaN or infinite: tokens"),
        (torch.full((2, 1, 4), 1e300, dtype=torch.float64), "NaN or infinite: tokens"),
        (torch.zeros(2, 0, 4), r"holds torch.float32 \(2, 0, 4\)"),
        (torch.zeros(0, 1, 4), r"holds torch.float32 \(0, 1, 4\)"),
    ],
)
def test_tokens_that_ask_for_nothing_are_refused(tokens: torch.Tensor, text: str, tmp_path: Path) -> None:
    save_file({"tokens": tokens}, tmp_path / CLASS_PROMPTS_FILE)
    with pytest.raises(CheckpointError, match=text):
        load_class_prompts(tmp_path)


@pytest.mark.parametrize(
    ("damage", "words"), [("missing", ""), ("text", ""), ("other", ""), ("flat", ""), ("pipe", "file but a pipe")]
)
def test_what_holds_no_tokens_is_refused(damage: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / CLASS_PROMPTS_FILE
    if damage == "text":
        path.write_text("no tensors here")
    elif damage == "pipe":
        os.mkfifo(path)
    elif damage != "missing":
        save_file({"tokens" if damage == "flat" else "other": torch.zeros(4)}, path)
    with pytest.raises(CheckpointError, match=f"{CLASS_PROMPTS_FILE}.*{words}"):
        load_class_prompts(tmp_path)

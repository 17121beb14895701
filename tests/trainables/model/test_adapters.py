from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from sam2.build_sam import build_sam2
from sam2.modeling.sam2_base import SAM2Base
from torch import Tensor, nn

from trainables.model.adapters import (
    adapters_off,
    attach_adapters,
    count_parameters,
    get_base,
    list_attention_layers,
    list_output_heads,
    load_adapter_weights,
    merge_adapters,
    save_adapters,
)
from trainables.model.build import MODELS, build_architecture, nano_config_path
from trainables.model.forward import decode_prompts, encode_images
from trainables.recipe import AdapterRecipe

TARGETS = ("image_encoder", "mask_decoder", "both")
RECIPE = AdapterRecipe(rank=4, alpha=8.0, dropout=0.0, targets="both", train_heads=True)


@pytest.fixture(scope="module")
def base_state() -> dict[str, Tensor]:
    """Random weights: nothing here may depend on what nano has learned."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return dict(build_architecture(MODELS["nano"]).state_dict())


@pytest.fixture
def bare(base_state: dict[str, Tensor]) -> SAM2Base:
    return build_bare(base_state)


def build_bare(state: dict[str, Tensor]) -> SAM2Base:
    model = build_architecture(MODELS["nano"])
    model.load_state_dict(state)
    return model


def predict(model: SAM2Base) -> Tensor:
    """Logits, IoU estimates and object scores of three prompts in two images, in one row.

    With three candidate masks and with one: the single mask has an output head of its own.
    """
    images = torch.rand(2, 3, 256, 256, generator=torch.Generator().manual_seed(1))
    points = torch.tensor([[[40.0, 50], [200, 180]], [[20, 30], [90, 90]], [[0, 0], [255, 255]]])
    labels = torch.tensor([[2, 3]] * 3, dtype=torch.int32)
    features = encode_images(model, images)
    parts: list[Tensor] = []
    for multimask in (True, False):
        parts += decode_prompts(model, features, torch.tensor([0, 1, 1]), points, labels, multimask)
    return torch.cat([part.flatten() for part in parts])


def train_steps(adapted: PeftModel, n_steps: int) -> Iterator[dict[str, float]]:
    """Takes AdamW steps and yields, for each, the greatest gradient of every trained parameter."""
    trained = {name: value for name, value in adapted.named_parameters() if value.requires_grad}
    adapted.train()
    optimizer = torch.optim.AdamW(trained.values(), lr=1e-2, weight_decay=0.0)
    for _ in range(n_steps):
        optimizer.zero_grad(set_to_none=True)
        predict(get_base(adapted)).square().mean().backward()
        slopes = {
            name: float(value.grad.abs().max()) for name, value in trained.items() if value.grad is not None
        }
        optimizer.step()
        yield slopes


def train(adapted: PeftModel, n_steps: int = 2) -> PeftModel:
    for _ in train_steps(adapted, n_steps):
        pass
    return adapted


def copy_state(adapted: PeftModel) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in adapted.state_dict().items()}


def list_frozen(adapted: PeftModel) -> dict[str, Tensor]:
    """The base's weights under their stock names, as they lie below adapters and copied heads."""
    found = {}
    for name, value in get_base(adapted).state_dict().items():
        if "lora_" not in name and "modules_to_save" not in name:
            found[name.replace(".base_layer.", ".").replace(".original_module.", ".")] = value
    return found


@pytest.mark.parametrize("name", ["nano", "tiny"])
def test_attention_layers_are_linear_and_none_is_a_block_s_own_projection(name: str) -> None:
    model = build_architecture(MODELS[name])
    layers = {targets: list_attention_layers(model, targets) for targets in TARGETS}
    n_blocks = len(model.image_encoder.trunk.blocks)
    assert len(layers["image_encoder"]) == 2 * n_blocks
    assert len(layers["mask_decoder"]) == 4 * 3 * 2 + 4  # three attentions in two layers, and the final one
    assert layers["both"] == layers["image_encoder"] + layers["mask_decoder"]
    assert len(set(layers["both"])) == len(layers["both"])
    for layer in layers["both"]:
        assert isinstance(model.get_submodule(layer), nn.Linear)
        assert not re.search(r"blocks\.\d+\.proj$", layer)


def test_output_heads_exist(bare: SAM2Base) -> None:
    heads = list_output_heads(bare)
    assert len(heads) == 6
    assert all(list(bare.get_submodule(head).parameters()) for head in heads)


@pytest.mark.parametrize("train_heads", [True, False])
@pytest.mark.parametrize("targets", TARGETS)
def test_at_first_the_adapted_model_equals_its_base_exactly(
    bare: SAM2Base, targets: str, train_heads: bool
) -> None:
    with torch.no_grad():
        before = predict(bare)
        adapted = attach_adapters(bare, AdapterRecipe(targets=targets, train_heads=train_heads), seed=0)
        adapted.eval()
        assert torch.equal(predict(get_base(adapted)), before)


@pytest.mark.parametrize("targets", TARGETS)
def test_adapters_sit_on_the_targets_and_nowhere_else(bare: SAM2Base, targets: str) -> None:
    wanted = set(list_attention_layers(bare, targets))
    adapted = attach_adapters(bare, AdapterRecipe(rank=3, targets=targets), seed=0)
    first = {
        name.removesuffix(".lora_A.default.weight"): value
        for name, value in get_base(adapted).named_parameters()
        if "lora_A" in name
    }
    assert set(first) == wanted
    assert {len(value) for value in first.values()} == {3}


@pytest.mark.parametrize("targets", TARGETS)
def test_steps_train_every_adapter_and_head_and_leave_the_base_bit_for_bit(
    bare: SAM2Base, base_state: dict[str, Tensor], targets: str
) -> None:
    adapted = attach_adapters(bare, AdapterRecipe(rank=4, targets=targets, train_heads=True), seed=0)
    before = copy_state(adapted)
    trained = {name for name, value in adapted.named_parameters() if value.requires_grad}
    first, second = train_steps(adapted, 2)
    # The first factor's gradient passes through the second factor, which is zero until the first step.
    assert set(first) == trained and all(first[name] > 0 for name in trained if "lora_A" not in name)
    assert min(second.values()) > 0
    after = adapted.state_dict()
    assert not [name for name in trained if torch.equal(before[name], after[name])]
    frozen = list_frozen(adapted)
    assert set(frozen) == set(base_state)
    assert all(torch.equal(frozen[name], base_state[name]) for name in base_state)


def test_without_heads_only_adapters_are_trained(bare: SAM2Base) -> None:
    n_bare = sum(value.numel() for value in bare.parameters())
    adapted = attach_adapters(bare, AdapterRecipe(train_heads=False), seed=0)
    trained = [(name, value) for name, value in adapted.named_parameters() if value.requires_grad]
    assert trained and all("lora_" in name for name, _ in trained)
    n_trained = sum(value.numel() for _, value in trained)
    assert count_parameters(adapted) == (n_trained, n_bare + n_trained)


def test_with_heads_their_copies_are_trained_too(bare: SAM2Base) -> None:
    heads = list_output_heads(bare)
    n_heads = sum(value.numel() for head in heads for value in bare.get_submodule(head).parameters())
    n_bare = sum(value.numel() for value in bare.parameters())
    adapted = attach_adapters(bare, AdapterRecipe(train_heads=True), seed=0)
    n_lora = sum(value.numel() for name, value in adapted.named_parameters() if "lora_" in name)
    assert count_parameters(adapted) == (n_heads + n_lora, n_bare + n_heads + n_lora)


@pytest.mark.parametrize("train_heads", [True, False])
@pytest.mark.parametrize("targets", TARGETS)
def test_merged_equals_unmerged_and_loads_strictly_as_a_stock_checkpoint(
    bare: SAM2Base, base_state: dict[str, Tensor], tmp_path: Path, targets: str, train_heads: bool
) -> None:
    recipe = AdapterRecipe(rank=4, alpha=8.0, targets=targets, train_heads=train_heads)
    adapted = train(attach_adapters(bare, recipe, seed=0)).eval()
    with torch.no_grad():
        unmerged = predict(get_base(adapted))
        merged = merge_adapters(adapted)
        torch.testing.assert_close(predict(merged), unmerged, rtol=0, atol=1e-4)
    assert list(merged.state_dict()) == list(base_state)
    torch.save({"model": merged.state_dict()}, tmp_path / "sam2.pt")
    with nano_config_path():
        loaded = build_sam2("sam2_nano.yaml", str(tmp_path / "sam2.pt"), device="cpu")
    with torch.no_grad():
        assert torch.equal(predict(loaded), predict(merged))
        assert (predict(loaded) - predict(build_bare(base_state))).abs().max() > 1e-3  # it had learned something


def test_adapters_off_is_the_base_exactly_and_then_on_again(bare: SAM2Base) -> None:
    with torch.no_grad():
        zero_shot = predict(bare)
    adapted = train(attach_adapters(bare, RECIPE, seed=0)).eval()
    trained = [name for name, value in adapted.named_parameters() if value.requires_grad]
    with torch.no_grad():
        tuned = predict(get_base(adapted))
        with adapters_off(adapted) as base:
            assert torch.equal(predict(base), zero_shot)
        assert torch.equal(predict(get_base(adapted)), tuned)
    assert (tuned - zero_shot).abs().max() > 1e-3
    assert [name for name, value in adapted.named_parameters() if value.requires_grad] == trained


@pytest.mark.parametrize("train_heads", [True, False])
def test_saved_adapters_load_exactly(
    base_state: dict[str, Tensor], tmp_path: Path, train_heads: bool
) -> None:
    recipe = AdapterRecipe(rank=4, alpha=6.5, dropout=0.1, train_heads=train_heads)
    adapted = train(attach_adapters(build_bare(base_state), recipe, seed=0)).eval()
    save_adapters(adapted, tmp_path / "adapter")
    assert {path.name for path in (tmp_path / "adapter").iterdir()} >= {
        "adapter_config.json",
        "adapter_model.safetensors",
    }
    other = attach_adapters(build_bare(base_state), recipe, seed=99).eval()
    load_adapter_weights(other, tmp_path / "adapter")
    saved, loaded = adapted.state_dict(), other.state_dict()
    assert list(saved) == list(loaded)
    assert all(torch.equal(saved[name], loaded[name]) for name in saved)
    with torch.no_grad():
        assert torch.equal(predict(get_base(adapted)), predict(get_base(other)))


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (AdapterRecipe(rank=8, alpha=8.0), "r must be 8, but got 4"),
        (AdapterRecipe(rank=4, alpha=16.0), "lora_alpha must be 16.0, but got 8.0"),
        (AdapterRecipe(rank=4, alpha=8.0, targets="mask_decoder"), "weights differ in name"),
        (AdapterRecipe(rank=4, alpha=8.0, targets="image_encoder"), "weights differ in name"),
        (AdapterRecipe(rank=4, alpha=8.0, train_heads=False), "weights differ in name"),
    ],
)
def test_adapters_of_another_recipe_are_refused_and_nothing_changes(
    base_state: dict[str, Tensor], tmp_path: Path, other: AdapterRecipe, told: str
) -> None:
    save_adapters(attach_adapters(build_bare(base_state), RECIPE, seed=0), tmp_path)
    adapted = attach_adapters(build_bare(base_state), other, seed=1)
    before = copy_state(adapted)
    with pytest.raises(ValueError, match=f"of another adapter.*{told}"):
        load_adapter_weights(adapted, tmp_path)
    assert all(torch.equal(value, before[name]) for name, value in adapted.state_dict().items())


@pytest.mark.parametrize("missing", ["adapter_model.safetensors", "adapter_config.json"])
def test_a_folder_without_the_adapter_is_told(bare: SAM2Base, tmp_path: Path, missing: str) -> None:
    adapted = attach_adapters(bare, RECIPE, seed=0)
    save_adapters(adapted, tmp_path)
    (tmp_path / missing).unlink()
    with pytest.raises(FileNotFoundError, match=missing):
        load_adapter_weights(adapted, tmp_path)


def test_the_seed_decides_the_first_factors_and_the_global_generator_is_left_alone(
    base_state: dict[str, Tensor],
) -> None:
    before = torch.get_rng_state()
    first, again, other = (
        attach_adapters(build_bare_quietly(base_state), RECIPE, seed).state_dict() for seed in (3, 3, 4)
    )
    assert torch.equal(torch.get_rng_state(), before)
    factors = [name for name in first if "lora_A" in name]
    assert factors and all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in factors)


def build_bare_quietly(state: dict[str, Tensor]) -> SAM2Base:
    """Building draws random weights from the global generator; what attaching draws is asked for here."""
    with torch.random.fork_rng(devices=[]):
        return build_bare(state)

import dataclasses

import pytest
import torch
from sam2.modeling.sam2_base import SAM2Base
from torch import nn

from trainables.adapters.adapted_model import attach_adapters
from trainables.model.weights import load_model
from trainables.recipe import AdapterRecipe, OptimRecipe
from trainables.training.optim import build_optimizer, list_lr_scales, set_lr


def test_only_matrices_are_decayed_and_frozen_parameters_left_out() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    model[2].requires_grad_(False)
    optimizer = build_optimizer(model, OptimRecipe(lr=2e-3, weight_decay=0.3))
    assert isinstance(optimizer, torch.optim.AdamW)
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    expected = {model[0].weight: 0.3, model[0].bias: 0.0, model[1].weight: 0.0, model[1].bias: 0.0}
    assert decay == {id(parameter): value for parameter, value in expected.items()}
    assert all(group["lr"] == 2e-3 for group in optimizer.param_groups)
    assert len(build_optimizer(nn.Linear(2, 2, bias=False), OptimRecipe()).param_groups) == 1


def test_layers_decay_block_by_block(nano: SAM2Base) -> None:
    n_blocks = len(nano.image_encoder.trunk.blocks)
    scales = list_lr_scales(nano, 0.5)
    trunk = "image_encoder.trunk"
    assert n_blocks >= 4
    for index in range(n_blocks):
        # By hand: the last of n blocks has 1/2, the one below 1/4, the first 1/2 to the n.
        assert scales[f"{trunk}.blocks.{index}.attn.qkv.weight"] == 0.5 ** (n_blocks - index)
    embeddings = ("patch_embed.proj.weight", "patch_embed.proj.bias", "pos_embed", "pos_embed_window")
    assert {scales[f"{trunk}.{name}"] for name in embeddings} == {0.5 ** (n_blocks + 1)}
    rest = {scale for name, scale in scales.items() if not name.startswith(f"{trunk}.")}
    assert rest == {1.0} and any(name.startswith("image_encoder.neck") for name in scales)


@pytest.mark.parametrize("kind", ["lora", "bottleneck", "none"])
def test_what_is_put_into_a_block_decays_with_it(kind: str) -> None:
    recipe = AdapterRecipe(kind=kind, train_encoder=kind == "none")
    adapted = attach_adapters(load_model("nano", None), recipe, seed=0)
    optimizer = build_optimizer(adapted, OptimRecipe(lr=1e-3, layer_decay=0.5))
    found = {id(p): group["lr_scale"] for group in optimizer.param_groups for p in group["params"]}
    trained = {name: p for name, p in adapted.named_parameters() if p.requires_grad}
    assert len(found) == len(trained)
    for name, parameter in trained.items():
        if "trunk.blocks.0." in name:
            assert found[id(parameter)] == min(found.values()) * (2 if kind == "none" else 1)
        if "mask_decoder" in name:
            assert found[id(parameter)] == 1
    assert any("trunk.blocks.0." in name for name in trained) and any("mask_decoder" in name for name in trained)


@pytest.mark.parametrize(("kind", "scale"), [("lora", 4.0), ("rslora", 8.0), ("dora", 4.0), ("lokr", 4.0)])
def test_updates_have_a_rate_of_their_own_whatever_their_scale(kind: str, scale: float) -> None:
    adapted = attach_adapters(load_model("nano", None), AdapterRecipe(kind=kind, rank=4, alpha=16.0), seed=0)
    recipe = OptimRecipe(lr=1e-3, layer_decay=0.5)
    plain = list_rates(build_optimizer(adapted, recipe), adapted)
    ours = list_rates(build_optimizer(adapted, dataclasses.replace(recipe, update_lr=2e-3)), adapted)
    factors = {name: ours[name] / plain[name] for name in plain}
    is_factor = {name: "lora_A" in name or "lora_B" in name or "lokr_" in name for name in plain}
    assert {True, False} == set(is_factor.values())
    assert all(factors[name] == pytest.approx(2 / scale if is_factor[name] else 1) for name in plain)


def list_rates(optimizer: torch.optim.Optimizer, model: nn.Module) -> dict[str, float]:
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    return {name: rates[id(p)] for name, p in model.named_parameters() if p.requires_grad}


def test_each_group_gets_its_scale_of_the_learning_rate(nano: SAM2Base) -> None:
    optimizer = build_optimizer(nano, OptimRecipe(lr=1e-3, layer_decay=0.5))
    set_lr(optimizer, 0.25)
    n_blocks = len(nano.image_encoder.trunk.blocks)
    assert {group["lr"] for group in optimizer.param_groups} == {0.25 * 0.5**depth for depth in range(n_blocks + 2)}
    plain = build_optimizer(nano, OptimRecipe(lr=1e-3)).param_groups
    assert [(group["lr"], group["lr_scale"]) for group in plain] == [(1e-3, 1.0)] * 2

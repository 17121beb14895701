from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from trainables.adapters.adapted_model import attach_adapters
from trainables.model.weights import load_model
from trainables.recipe import AdapterRecipe, OptimRecipe
from trainables.training.optim import build_optimizer, build_schedule, compute_lr, list_lr_scales, set_lr

RECIPE = OptimRecipe(lr=1e-3, lr_end_fraction=0.1, warmup_fraction=0.1)


def list_lrs(n_steps: int, n_epochs: int = 1, **changes: float) -> list[float]:
    schedule = build_schedule(dataclasses.replace(RECIPE, **changes), n_steps, n_epochs)
    return [compute_lr(step, schedule) for step in range(n_steps)]


def test_the_learning_rate_warms_up_linearly_to_its_peak() -> None:
    lrs = list_lrs(100, warmup_fraction=0.2)
    assert lrs[:20] == pytest.approx([1e-3 * (step + 1) / 20 for step in range(20)])
    assert max(lrs) == lrs[19] == 1e-3


def test_the_cosine_passes_its_middle_and_ends_at_the_end_fraction() -> None:
    lrs = list_lrs(101, warmup_fraction=0.0)
    assert lrs[0] == 1e-3
    assert lrs[50] == pytest.approx((1e-3 + 1e-4) / 2)
    assert lrs[100] == pytest.approx(1e-4)
    assert lrs == sorted(lrs, reverse=True)


@pytest.mark.parametrize("n_steps", [2, 3, 7, 48, 1000])
@pytest.mark.parametrize("warmup_fraction", [0.0, 0.1, 0.3])
@pytest.mark.parametrize("lr_end_fraction", [0.0, 0.1, 1.0])
def test_the_last_step_has_the_end_rate_and_some_step_the_peak(
    n_steps: int, warmup_fraction: float, lr_end_fraction: float
) -> None:
    lrs = list_lrs(n_steps, warmup_fraction=warmup_fraction, lr_end_fraction=lr_end_fraction)
    assert max(lrs) == pytest.approx(1e-3)
    if n_steps > 2 or not warmup_fraction:  # of two steps with a warm-up the last one is the peak's
        assert lrs[-1] == pytest.approx(1e-3 * lr_end_fraction, abs=1e-12)


@pytest.mark.parametrize("warmup_fraction", [0.0, 0.1, 0.9])
def test_a_single_step_is_taken_at_the_peak(warmup_fraction: float) -> None:
    assert list_lrs(1, warmup_fraction=warmup_fraction) == [1e-3]


def test_no_step_more_than_meant_warms_up() -> None:
    lrs = list_lrs(100, warmup_fraction=0.07)  # 0.07 * 100 is a little more than 7 in floating point
    assert lrs.index(max(lrs)) == 6


def test_steps_beyond_the_schedule_keep_the_end_rate() -> None:
    assert compute_lr(500, build_schedule(RECIPE, 100, 1)) == pytest.approx(1e-4)


def test_the_recorded_v2_s_curve() -> None:
    # 85 regions, 6 a step: 15 steps an epoch, 1,500 in 100 epochs; 175 steps up to 6e-5, a cosine down to 6e-6.
    lrs = list_lrs(1500, 100, lr=6e-5, lr_end_fraction=0.1, warmup_steps=175)
    assert lrs[0] == pytest.approx(6e-5 / 175)
    assert lrs[:175] == pytest.approx([6e-5 * (step + 1) / 175 for step in range(175)])
    assert lrs[174] == 6e-5 and lrs[173] < lrs[174] and lrs[175] == pytest.approx(6e-5)
    assert lrs[175:] == sorted(lrs[175:], reverse=True)
    assert lrs[837] == pytest.approx(3.3e-5)  # half way between steps 175 and 1,499
    assert lrs[1499] == pytest.approx(6e-6)


def test_the_recorded_lora_light_s_curve() -> None:
    # 85 regions, 4 a step: 22 steps an epoch, 660 in 30 epochs, a quarter of which warm up.
    lrs = list_lrs(660, 30, lr=5e-6, warmup_fraction=0.25)
    assert lrs.index(5e-6) == 164 and lrs[:165] == pytest.approx([5e-6 * (step + 1) / 165 for step in range(165)])


def test_the_recorded_lora_r8_s_curve() -> None:
    # 22 steps an epoch, 440 in 20 epochs, of which two warm up; from 1e-4 down to 1e-6.
    lrs = list_lrs(440, 20, lr=1e-4, lr_end_fraction=0.01, warmup_epochs=2.0)
    assert lrs.index(1e-4) == 43 and lrs[21] == pytest.approx(5e-5) and lrs[439] == pytest.approx(1e-6)


def test_part_of_an_epoch_may_warm_up() -> None:
    assert list_lrs(40, 4, warmup_epochs=0.5).index(1e-3) == 4


def test_a_warm_up_longer_than_the_fine_tune_stays_as_steep() -> None:
    lrs = list_lrs(10, warmup_steps=175)
    assert lrs == pytest.approx([1e-3 * (step + 1) / 175 for step in range(10)])


def test_only_matrices_are_decayed_and_frozen_parameters_left_out() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    model[2].requires_grad_(False)
    optimizer = build_optimizer(model, OptimRecipe(lr=2e-3, weight_decay=0.3))
    assert isinstance(optimizer, torch.optim.AdamW)
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    expected = {model[0].weight: 0.3, model[0].bias: 0.0, model[1].weight: 0.0, model[1].bias: 0.0}
    assert decay == {id(parameter): value for parameter, value in expected.items()}
    assert all(group["lr"] == 2e-3 for group in optimizer.param_groups)


def test_matrices_alone_make_one_group() -> None:
    optimizer = build_optimizer(nn.Linear(2, 2, bias=False), OptimRecipe())
    assert len(optimizer.param_groups) == 1


def test_layers_decay_block_by_block() -> None:
    model = load_model("nano", None)
    n_blocks = len(model.image_encoder.trunk.blocks)
    scales = list_lr_scales(model, 0.5)
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


def test_each_group_gets_its_scale_of_the_learning_rate() -> None:
    model = load_model("nano", None)
    optimizer = build_optimizer(model, OptimRecipe(lr=1e-3, layer_decay=0.5))
    set_lr(optimizer, 0.25)
    rates = {group["lr"] for group in optimizer.param_groups}
    n_blocks = len(model.image_encoder.trunk.blocks)
    assert rates == {0.25 * 0.5**depth for depth in range(n_blocks + 2)}


def test_without_layer_decay_there_are_two_groups_at_the_full_rate() -> None:
    optimizer = build_optimizer(load_model("nano", None), OptimRecipe(lr=1e-3))
    assert [(group["lr"], group["lr_scale"]) for group in optimizer.param_groups] == [(1e-3, 1.0)] * 2

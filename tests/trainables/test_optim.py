from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from trainables.optim import build_optimizer, compute_lr
from trainables.recipe import OptimRecipe

RECIPE = OptimRecipe(lr=1e-3, lr_end_fraction=0.1, warmup_fraction=0.1)


def list_lrs(n_steps: int, **changes: float) -> list[float]:
    recipe = dataclasses.replace(RECIPE, **changes)
    return [compute_lr(step, n_steps, recipe) for step in range(n_steps)]


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
    assert compute_lr(500, 100, RECIPE) == pytest.approx(1e-4)


def test_only_matrices_are_decayed_and_frozen_parameters_left_out() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    model[2].requires_grad_(False)
    optimizer = build_optimizer(model.parameters(), OptimRecipe(lr=2e-3, weight_decay=0.3))
    assert isinstance(optimizer, torch.optim.AdamW)
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    expected = {model[0].weight: 0.3, model[0].bias: 0.0, model[1].weight: 0.0, model[1].bias: 0.0}
    assert decay == {id(parameter): value for parameter, value in expected.items()}
    assert all(group["lr"] == 2e-3 for group in optimizer.param_groups)


def test_matrices_alone_make_one_group() -> None:
    optimizer = build_optimizer([nn.Parameter(torch.zeros(2, 2))], OptimRecipe())
    assert len(optimizer.param_groups) == 1

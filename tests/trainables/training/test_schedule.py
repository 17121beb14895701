import dataclasses
from typing import Any

import pytest

from trainables.recipe import OptimRecipe
from trainables.training.schedule import build_schedule

RECIPE = OptimRecipe(lr=1e-3, lr_end_fraction=0.1, warmup_fraction=0.1)


def list_lrs(n_steps: int, n_epochs: int = 1, **changes: Any) -> list[float]:
    schedule = build_schedule(dataclasses.replace(RECIPE, **changes), n_steps, n_epochs)
    return [schedule.compute_lr(step) for step in range(n_steps)]


def test_the_learning_rate_warms_up_linearly_to_its_peak() -> None:
    lrs = list_lrs(100, warmup_fraction=0.2)
    assert lrs[:20] == pytest.approx([1e-3 * (step + 1) / 20 for step in range(20)])
    assert max(lrs) == lrs[19] == 1e-3
    lrs = list_lrs(100, warmup_fraction=0.07)  # 0.07 * 100 is a little more than 7 in floating point
    assert lrs.index(max(lrs)) == 6


def test_the_cosine_passes_its_middle_and_stays_at_the_end_fraction() -> None:
    lrs = list_lrs(101, warmup_fraction=0.0)
    assert lrs[0] == 1e-3
    assert lrs[50] == pytest.approx((1e-3 + 1e-4) / 2)
    assert lrs[100] == pytest.approx(1e-4) == build_schedule(RECIPE, 100, 1).compute_lr(500)
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


def test_steps_and_parts_of_an_epoch_may_warm_up() -> None:  # the recorded runs' curves are in tests/jobs/spaces
    lrs = list_lrs(1500, 100, warmup_steps=175)
    assert lrs.index(1e-3) == 174 and lrs[837] == pytest.approx((1e-3 + 1e-4) / 2)  # half way from 175 to 1,499
    longer = list_lrs(10, warmup_steps=175)  # than the fine-tune: as steep
    assert longer == pytest.approx([1e-3 * (step + 1) / 175 for step in range(10)])
    assert list_lrs(40, 4, warmup_epochs=0.5).index(1e-3) == 4


def test_warm_up_stable_decay_falls_at_the_end_alone_and_constant_never() -> None:
    lrs = list_lrs(101, schedule="wsd", decay_fraction=0.16, warmup_fraction=0.1)  # 17 steps fall
    assert lrs[10:84] == [1e-3] * 74 and lrs[:10] == list_lrs(101, warmup_fraction=0.1)[:10]
    assert lrs[83:] == sorted(lrs[83:], reverse=True) and lrs[-1] == pytest.approx(1e-4)
    shares = [1e-3 - (1e-3 - 1e-4) * (step / 17) ** 0.5 for step in range(18)]
    assert lrs[83:] == pytest.approx(shares)
    everything = list_lrs(20, schedule="wsd", decay_fraction=1.0, warmup_fraction=0.5)
    assert everything.index(max(everything)) == 9 and everything[-1] == pytest.approx(1e-4)
    assert list_lrs(101, schedule="constant", warmup_fraction=0.1)[10:] == [1e-3] * 91
    assert set(list_lrs(9, schedule="wsd", decay_fraction=0.0, warmup_fraction=0.0)[:-1]) == {1e-3}

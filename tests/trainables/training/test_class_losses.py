import math

import pytest
import torch

from trainables.model.class_prompts import ClassOutputs
from trainables.recipe import LossRecipe
from trainables.training.class_losses import class_dice_loss, compute_class_loss, focal_cross_entropy

EVEN = torch.ones(3)


def draw_targets() -> torch.Tensor:
    """Two regions of 2 x 2 pixels and three names; each shows two of them, the second has an ignored pixel."""
    targets = torch.zeros(2, 3, 2, 2)
    targets[0, 0, 0] = targets[0, 2, 1] = 1
    targets[1, 1, 0] = targets[1, 2, 1, 0] = 1
    return targets


def answer(targets: torch.Tensor, logit: float) -> torch.Tensor:
    return logit * targets


def test_even_odds_cost_the_logarithm_of_the_names() -> None:
    log_probability = torch.zeros(2, 3, 2, 2).log_softmax(1)
    assert float(focal_cross_entropy(log_probability, draw_targets(), EVEN, 0.0)) == pytest.approx(math.log(3))
    focal = (2 / 3) ** 2 * math.log(3)
    assert float(focal_cross_entropy(log_probability, draw_targets(), EVEN, 2.0)) == pytest.approx(focal)


def test_dice_by_hand_without_names_that_no_region_shows() -> None:
    targets = draw_targets()  # areas 2, 2 and 3; seven pixels count
    dice = [(2 * area / 3 + 1) / (7 / 3 + area + 1) for area in (2, 2, 3)]
    probability = torch.full((2, 3, 2, 2), 1 / 3)
    assert float(class_dice_loss(probability, targets)) == pytest.approx(1 - sum(dice) / 3)
    targets[1] = 0  # an ignored region: name 1 is nowhere
    shown = (2 * 2 / 3 + 1) / (4 / 3 + 2 + 1)  # of the two others, each with two of four pixels
    assert float(class_dice_loss(probability, targets)) == pytest.approx(1 - shown)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_the_right_answer_costs_nothing_and_a_wrong_one_more(gamma: float) -> None:
    targets, weights = draw_targets(), LossRecipe(focal_gamma=gamma)
    objectness = 20 * (targets.flatten(-2).sum(-1) > 0).float() - 10
    right = compute_class_loss(ClassOutputs(answer(targets, 30.0), objectness), targets, EVEN, weights)
    wrong = compute_class_loss(ClassOutputs(answer(targets, -30.0), -objectness), targets, EVEN, weights)
    assert float(right["total"]) == pytest.approx(0, abs=1e-3)
    assert all(float(bad) > float(good) + 0.5 for bad, good in zip(wrong.values(), right.values(), strict=True))


def test_ignored_pixels_do_not_count() -> None:
    targets, objectness = draw_targets(), torch.zeros(2, 3)
    logits = torch.randn(2, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    other = logits.clone()
    other[1, :, 1, 1] = torch.tensor([50.0, -50.0, 3.0])
    first, second = (
        compute_class_loss(ClassOutputs(each, objectness), targets, EVEN, LossRecipe()) for each in (logits, other)
    )
    assert first == second


def test_regions_without_a_pixel_that_counts_give_finite_slopes() -> None:
    logits = torch.zeros(1, 3, 2, 2, requires_grad=True)
    outputs = ClassOutputs(logits, torch.zeros(1, 3))
    total = compute_class_loss(outputs, torch.zeros(1, 3, 2, 2), EVEN, LossRecipe(focal_gamma=0.5))["total"]
    total.backward()
    assert logits.grad is not None and bool(torch.isfinite(logits.grad).all()) and bool(torch.isfinite(total))

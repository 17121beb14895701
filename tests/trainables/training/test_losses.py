import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from trainables.data.store import RegionStore
from trainables.model.forward import MaskOutputs
from trainables.recipe import LossRecipe
from trainables.training.losses import (
    compute_loss,
    compute_validation_loss,
    dice_loss,
    focal_loss,
    measure_iou,
    weigh_classes,
)

LN2, LN3 = math.log(2), math.log(3)


def to_map(*values: float) -> torch.Tensor:
    return torch.tensor([list(values)])


def test_focal_loss_equals_its_definition_by_hand_and_gamma_0_without_alpha_is_cross_entropy() -> None:
    # Logits 0 and ln 3: probabilities 1/2 and 3/4. The first is foreground, the second background.
    # alpha 0.25 weighs them 0.25 and 0.75; gamma 2 by (1/2)^2 and (3/4)^2; cross-entropies ln 2 and ln 4.
    expected = (0.25 * 0.5**2 * LN2 + 0.75 * 0.75**2 * 2 * LN2) / 2
    found = focal_loss(to_map(0.0, LN3), to_map(1.0, 0.0), gamma=2.0, alpha=0.25)
    assert float(found) == pytest.approx(expected, rel=1e-6)
    logits, targets = to_map(-2.0, 0.5, 3.0), to_map(0.0, 1.0, 0.25)
    plain = torch.nn.functional.binary_cross_entropy_with_logits(logits, targets)
    assert float(focal_loss(logits, targets, gamma=0.0, alpha=-1.0)) == pytest.approx(float(plain), rel=1e-6)


def test_gamma_plays_down_pixels_the_more_the_surer_they_are() -> None:
    sure, unsure = to_map(3.0), to_map(0.1)
    ratios = [
        float(focal_loss(sure, to_map(1.0), gamma, 0.5) / focal_loss(unsure, to_map(1.0), gamma, 0.5))
        for gamma in (0.0, 0.5, 1.0, 2.0, 3.0)
    ]
    assert ratios == sorted(ratios, reverse=True)


def test_dice_loss_equals_its_definition_by_hand() -> None:
    # Probabilities 1/2, 3/4, 1/2 against 1, 1, 0: shared 5/4, sums 7/4 and 2.
    found = dice_loss(to_map(0.0, LN3, 0.0), to_map(1.0, 1.0, 0.0))
    assert float(found) == pytest.approx(1 - (2 * 1.25 + 1) / (1.75 + 2 + 1), rel=1e-6)


@pytest.mark.parametrize(
    ("logits", "targets", "iou"),
    [
        ((1.0, 1.0, -1.0, -1.0), (1.0, 0.0, 1.0, 0.0), 1 / 3),
        ((1.0, -1.0), (1.0, 0.0), 1.0),
        ((1.0, -1.0), (0.0, 1.0), 0.0),
        ((-1.0, -1.0), (0.0, 0.5), 0.0),
        ((1.0, 1.0), (0.6, 0.4), 0.5),
    ],
)
def test_iou_is_that_of_the_thresholded_maps(logits: tuple[float, ...], targets: tuple[float, ...], iou: float) -> None:
    assert float(measure_iou(to_map(*logits), to_map(*targets))) == pytest.approx(iou)


@pytest.mark.parametrize("gamma", [0.0, 0.3, 0.5, 1.0, 1.7, 3.0])
@pytest.mark.parametrize("level", [0.0, 20.0, 200.0, 1e4])
def test_gradients_stay_finite_at_saturated_logits(gamma: float, level: float) -> None:
    logits = torch.tensor([[level, -level, level, -level, level]], requires_grad=True)
    targets = to_map(1.0, 0.0, 0.0, 1.0, 0.5)
    loss = focal_loss(logits, targets, gamma, 0.25) + dice_loss(logits, targets)
    loss.sum().backward()
    assert torch.isfinite(loss).all() and logits.grad is not None and torch.isfinite(logits.grad).all()


def make_outputs(
    logits: torch.Tensor, iou: torch.Tensor | None = None, objectness: torch.Tensor | None = None
) -> MaskOutputs:
    n_objects, n_masks = logits.shape[:2]
    return MaskOutputs(
        logits,
        torch.zeros(n_objects, n_masks) if iou is None else iou,
        torch.zeros(n_objects, 1) if objectness is None else objectness,
    )


def make_object() -> tuple[torch.Tensor, torch.Tensor]:
    """Three candidates of one 4 x 4 object, the second the best, and the object."""
    target = torch.zeros(1, 4, 4)
    target[0, :2] = 1
    right = (2 * target - 1)[:, None] * 3
    logits = torch.cat([-right, right, torch.zeros_like(right)], dim=1)
    return logits.clone(), target


def test_the_iou_head_learns_from_all_masks() -> None:
    logits, target = make_object()  # IoUs: 0, 1, and 0 for logits of 0, which are no foreground
    logits.requires_grad_(True)
    iou = torch.tensor([[0.25, 0.5, 0.125]], requires_grad=True)
    loss = compute_loss(make_outputs(logits, iou), target, torch.ones(1), LossRecipe())
    assert float(loss["iou"].detach()) == pytest.approx((0.25 + 0.5 + 0.125) / 3)
    loss["iou"].backward()
    assert iou.grad is not None and torch.allclose(iou.grad, torch.tensor([[1.0, -1.0, 1.0]]) / 3)
    assert logits.grad is None or not logits.grad.any()


def test_objectness_is_pushed_up() -> None:
    logits, target = make_object()
    objectness = torch.tensor([[LN3]], requires_grad=True)
    loss = compute_loss(make_outputs(logits, objectness=objectness), target, torch.ones(1), LossRecipe())
    assert float(loss["objectness"].detach()) == pytest.approx(-math.log(0.75))
    loss["objectness"].backward()
    assert objectness.grad is not None and float(objectness.grad) == pytest.approx(-0.25)


def test_the_total_is_the_weighted_sum_of_the_parts() -> None:
    logits, target = make_object()
    weights = LossRecipe(focal=7.0, dice=5.0, iou=3.0, objectness=2.0)
    loss = compute_loss(make_outputs(logits, torch.full((1, 3), 0.4)), target, torch.ones(1), weights)
    total = 7 * loss["focal"] + 5 * loss["dice"] + 3 * loss["iou"] + 2 * loss["objectness"]
    assert float(loss["total"]) == pytest.approx(float(total))


def test_sam2_s_whole_loss_by_hand() -> None:
    """Two objects of two pixels, three candidates, SAM2's weights 20:1:1:1, alpha 0.25 and gamma 2.

    Candidates: A (1/2, 1/2), B (3/4, 1/4) and C (1/4, 3/4) in probabilities. For the object (1, 0)

    - focal A: (0.25 + 0.75) (1/2)^2 ln 2 / 2 = ln 2 / 8 = 0.0866; B: (1/4)^2 ln 4/3 / 2 = ln 4/3 / 32 = 0.0090;
      C: (3/4)^2 ln 4 / 2 = 9 ln 4 / 32 = 0.3899
    - Dice A: 1 - (1 + 1) / (2 + 1) = 1/3; B: 1 - (3/2 + 1) / 3 = 1/6; C: 1 - (1/2 + 1) / 3 = 1/2
    - 20 focal + Dice: A 2.066, B 0.346, C 8.298, so that B is trained, although C has the greatest predicted IoU
    - IoU of logits above 0: A 0 (logits of 0 are background), B 1, C 0; predicted 1/2, 1/4, 3/4: off by 1/2, 3/4, 3/4

    For the object (0, 1) B and C change places: C is trained, and the IoUs are off by 1/2, 1/4, 1/4.
    """
    candidates = torch.tensor([[[0.0, 0.0]], [[LN3, -LN3]], [[-LN3, LN3]]])
    logits = torch.stack([candidates, candidates]).requires_grad_(True)
    targets = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])
    iou = torch.tensor([[0.5, 0.25, 0.75]]).repeat(2, 1)
    objectness = torch.full((2, 1), LN3)
    loss = compute_loss(make_outputs(logits, iou, objectness), targets, torch.ones(2), LossRecipe())
    ln43 = math.log(4 / 3)
    expected = {
        "focal": ln43 / 32,
        "dice": 1 / 6,
        "iou": (2 / 3 + 1 / 3) / 2,
        "objectness": ln43,  # sigmoid(ln 3) = 3/4
        "total": 20 * ln43 / 32 + 1 / 6 + 1 / 2 + ln43,
    }
    found = {name: float(value.detach()) for name, value in loss.items()}
    assert found == pytest.approx(expected, rel=1e-6)
    assert found["total"] == pytest.approx(1.13415, rel=1e-6)
    loss["total"].backward()
    assert logits.grad is not None
    assert logits.grad.flatten(2).any(-1).tolist() == [[False, True, False], [False, False, True]]


@pytest.mark.parametrize(
    ("focal", "dice", "chosen"),
    [
        (1.0, 0.0, "shy"),
        (0.0, 1.0, "bold"),
        (1.0, 1.0, "bold"),  # 0.529 against 0.559
        (5.0, 2.0, "shy"),  # 1.294 against 1.520
        (20.0, 1.0, "shy"),  # 1.677 against 3.457
    ],
)
def test_the_choice_follows_the_weights_by_hand(focal: float, dice: float, chosen: str) -> None:
    # Foreground is the first of four pixels. Shy says 1/4 everywhere, bold 3/4 in the first two pixels.
    # Focal, shy: (0.25 (3/4)^2 ln 4 + 3 0.75 (1/4)^2 ln 4/3) / 4 = 0.0589;
    # bold: (0.25 (1/4)^2 ln 4/3 + 0.75 (3/4)^2 ln 4 + 2 0.75 (1/4)^2 ln 4/3) / 4 = 0.1541.
    # Dice, shy: 1 - (2/4 + 1) / (1 + 1 + 1) = 1/2; bold: 1 - (6/4 + 1) / (2 + 1 + 1) = 3/8.
    logits = torch.tensor([[[[-LN3, -LN3, -LN3, -LN3]], [[LN3, LN3, -LN3, -LN3]]]])
    target = torch.tensor([[[1.0, 0.0, 0.0, 0.0]]])
    parts = {"shy": (0.0588507, 1 / 2), "bold": (0.1540770, 3 / 8)}
    loss = compute_loss(make_outputs(logits), target, torch.ones(1), LossRecipe(focal=focal, dice=dice))
    assert (float(loss["focal"]), float(loss["dice"])) == pytest.approx(parts[chosen], rel=1e-5)


def test_objects_are_weighted_before_the_mean() -> None:
    logits, target = make_object()
    both = make_outputs(torch.cat([logits, logits.flip(1) * 0.5]))
    targets = torch.cat([target, target])
    each = [
        compute_loss(MaskOutputs(*(part[i : i + 1] for part in both)), target, torch.ones(1), LossRecipe())
        for i in range(2)
    ]
    joined = compute_loss(both, targets, torch.tensor([0.5, 3.0]), LossRecipe())
    for name in joined:
        expected = (0.5 * each[0][name] + 3 * each[1][name]) / 2
        assert float(joined[name]) == pytest.approx(float(expected), rel=1e-5)


def test_a_perfect_answer_costs_next_to_nothing() -> None:
    _, target = make_object()
    logits = ((2 * target - 1) * 30)[:, None]
    outputs = make_outputs(logits, torch.ones(1, 1), torch.full((1, 1), 30.0))
    loss = compute_loss(outputs, target, torch.ones(1), LossRecipe())
    assert all(0 <= float(part) < 1e-5 for part in loss.values())


def test_pixels_that_do_not_count_change_nothing() -> None:
    logits, target = make_object()
    valid = torch.ones(1, 4, 4)
    valid[0, :, 3] = 0
    spoiled = logits.clone()
    spoiled[..., 3] = 9.0
    spoiled.requires_grad_(True)
    iou = torch.full((1, 3), 0.4)
    weights = LossRecipe()
    whole = compute_loss(make_outputs(logits[..., :3], iou), target[..., :3], torch.ones(1), weights)
    partly = compute_loss(make_outputs(spoiled, iou), target, torch.ones(1), weights, valid)
    for part, expected in zip(partly.values(), whole.values(), strict=True):
        assert float(part.detach()) == pytest.approx(float(expected), rel=1e-6)
    partly["total"].backward()
    assert spoiled.grad is not None and not spoiled.grad[..., 3].any() and spoiled.grad[..., :3].any()


def test_all_valid_equals_no_mask_and_none_valid_is_finite() -> None:
    logits, target = make_object()
    outputs, ones = make_outputs(logits, torch.full((1, 3), 0.4)), torch.ones(1)
    plain = compute_loss(outputs, target, ones, LossRecipe())
    full = compute_loss(outputs, target, ones, LossRecipe(), torch.ones_like(target))
    empty = compute_loss(outputs, target, ones, LossRecipe(), torch.zeros_like(target))
    assert [float(part) for part in full.values()] == pytest.approx([float(part) for part in plain.values()])
    assert all(math.isfinite(part) for part in empty.values())


def test_validation_s_loss_is_cross_entropy_and_dice_of_what_counts() -> None:
    targets = torch.tensor([[[1.0, 1.0, 0.0, 0.0]], [[0.0] * 4]])  # a class that is there, and one that is not
    valid = torch.tensor([[1.0, 1.0, 1.0, 0.0]])
    zero = torch.zeros(2, 1, 4)
    # Probabilities of 1/2: overlap 1 of 1.5 + 2 with one pixel of smoothing; cross-entropy ln 2.
    assert compute_validation_loss(zero, targets, valid).tolist() == pytest.approx([LN2 + 1 - 3 / 4.5, LN2])
    right = torch.where(targets > 0, 20.0, -20.0)
    right[..., 3] = 20.0  # does not count
    assert compute_validation_loss(right, targets, valid).tolist() == pytest.approx([0.0, 0.0], abs=1e-6)
    assert compute_validation_loss(-right, targets, valid)[0] > 10


@pytest.fixture
def bcss_like(write_store: Callable[..., RegionStore]) -> RegionStore:
    """One region of 100 x 100 px with BCSS's published pixel shares, and one of tumor alone."""
    shares = {1: 3380, 2: 2620, 4: 690, 3: 590, 18: 50}
    mask = np.zeros(10_000, np.uint8)
    mask[: sum(shares.values())] = np.repeat(list(shares), list(shares.values()))
    names = {1: "tumor", 2: "stroma", 3: "lymphocyte", 4: "necrosis", 18: "blood_vessel"}
    tumor = np.zeros((100, 100), np.uint8)
    tumor[:20] = 1
    return write_store({"all": mask.reshape(100, 100), "tumor": tumor}, names, ignore=(0,))


def test_full_strength_gives_the_recorded_class_weights_also_where_a_class_lacks(bcss_like: RegionStore) -> None:
    weights = weigh_classes(bcss_like, ["all.png"], 1.0)
    assert list(bcss_like.classes) == [1, 2, 3, 4, 18]
    assert (weights / weights[0]).tolist() == pytest.approx([1.0, 1.3, 5.7, 4.9, 67.6], rel=0.02)
    assert float(weights.mean()) == pytest.approx(1)
    weights = weigh_classes(bcss_like, ["tumor.png"], 1.0)
    assert float(weights[0]) == 1 and torch.isfinite(weights).all()


@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0])
def test_objects_weigh_1_on_average(bcss_like: RegionStore, strength: float) -> None:
    weights = weigh_classes(bcss_like, ["all.png", "tumor.png"], strength)
    objects = torch.tensor([2.0, 1, 1, 1, 1])
    assert float((weights * objects).sum() / objects.sum()) == pytest.approx(1)
    assert float(weights[4] / weights[0]) == pytest.approx((5380 / 50) ** strength, rel=1e-5)
    assert strength > 0 or weights.tolist() == [1, 1, 1, 1, 1]

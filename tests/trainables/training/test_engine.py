import dataclasses
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from trainables.adapters.adapted_model import AdaptedModel, get_base
from trainables.errors import TrainablesError
from trainables.recipe import Recipe, Scalar
from trainables.training.batches import Batch
from trainables.training.engine import DivergedError, segment_batch, train_epoch
from trainables.training.losses import compute_loss
from trainables.training.optim import set_lr
from trainables.training.state import TrainingState

Start = Callable[..., TrainingState]
Draw = Callable[..., list[Batch]]
PARTS = ("focal", "dice", "iou", "objectness")


def make_recipe(**values: Scalar) -> Recipe:
    flat: dict[str, Scalar] = {"augment.kind": "none", "optim.batch_size": 2, "optim.lr": 2e-3}
    return Recipe.from_flat({**flat, **{name.replace("__", "."): value for name, value in values.items()}})


def copy_trained(adapted: AdaptedModel) -> list[Tensor]:
    return [p.detach().clone() for p in adapted.parameters() if p.requires_grad]


def weigh_parts(recipe: Recipe, losses: dict[str, float]) -> float:
    return sum(getattr(recipe.loss, part) * losses[part] for part in PARTS)


def test_the_loss_falls_over_a_few_epochs_of_made_tissue(start_state: Start, draw_batches: Draw) -> None:
    recipe = make_recipe(loss__dice=10.0)
    torch.manual_seed(0)
    state, batches = start_state(recipe, n_steps=10), draw_batches(recipe)
    reports, steps = [], []
    for _ in range(5):
        reports.append(train_epoch(state, batches))
        steps.append(state.step)
    assert steps == [2, 4, 6, 8, 10]
    assert reports[-1].losses["total"] < 0.9 * reports[0].losses["total"]
    assert state.adapted.training
    assert reports[-1].lr == pytest.approx(2e-4) and all(report.images_per_s > 0 for report in reports)
    assert all(0 <= report.data_wait_fraction < 1 and report.peak_memory_mb > 100 for report in reports)


def test_a_report_has_the_mean_of_each_part_and_the_last_learning_rate(start_state: Start, draw_batches: Draw) -> None:
    recipe = make_recipe()
    state = start_state(recipe, n_steps=40)
    state.step = 3
    report = train_epoch(state, draw_batches(recipe))
    assert list(report.losses) == ["total", *PARTS]
    assert report.losses["total"] == pytest.approx(weigh_parts(recipe, report.losses), rel=1e-5)
    assert state.step == 5 and report.lr == state.schedule.compute_lr(4)
    assert all(group["lr"] == report.lr for group in state.optimizer.param_groups)


def test_a_loss_that_is_not_finite_and_an_epoch_without_objects_are_errors(
    start_state: Start, draw_batches: Draw
) -> None:
    state = start_state(make_recipe())
    good, bad = draw_batches(state.recipe)
    bad = dataclasses.replace(bad, targets=torch.full_like(bad.targets, math.nan))
    lr = state.schedule.compute_lr(1)
    with pytest.raises(DivergedError, match=rf"became nan at step 2 of 8 \(learning rate {lr:.3g}\)"):
        train_epoch(state, [good, bad])
    assert all(torch.isfinite(parameter).all() for parameter in state.adapted.parameters())
    with pytest.raises(TrainablesError, match="no training region shows a class"):
        train_epoch(state, [])


@pytest.mark.parametrize(("grad_clip", "is_clipped"), [(1e-3, True), (0.0, False), (1e6, False)])
def test_gradients_are_clipped(start_state: Start, draw_batches: Draw, grad_clip: float, is_clipped: bool) -> None:
    state = start_state(make_recipe(optim__grad_clip=grad_clip, optim__warmup_fraction=0.0))
    # Its steps are as long as the gradient: what clipping does can be read off the weights.
    state.optimizer = torch.optim.SGD([p for p in state.adapted.parameters() if p.requires_grad], lr=1.0)
    before = copy_trained(state.adapted)
    train_epoch(state, draw_batches(state.recipe)[:1])
    after = copy_trained(state.adapted)
    moved = math.sqrt(sum(float((a - b).square().sum()) for a, b in zip(after, before, strict=True)))
    assert moved > 0
    assert (moved <= 2e-3 * 1e-3 * 1.01) == is_clipped


def test_class_weights_and_the_recipe_s_gamma_reach_the_loss(start_state: Start, draw_batches: Draw) -> None:
    totals = []
    for factor, gamma in ((1.0, 2.0), (3.0, 2.0), (1.0, 1.0)):
        state = start_state(make_recipe(loss__focal_gamma=gamma))
        state.class_weights = torch.full((5,), factor)
        totals.append(train_epoch(state, draw_batches(state.recipe)[:1]).losses["total"])
    assert totals[1] == pytest.approx(3 * totals[0], rel=1e-4)
    assert totals[2] > totals[0] * 1.01


def test_without_regularisers_a_step_is_the_plain_one_bit_for_bit(start_state: Start, draw_batches: Draw) -> None:
    recipe = make_recipe(adapter__dropout=0.3)
    state, batches = start_state(recipe), draw_batches(recipe)
    encodings = count_encodings(state.adapted)
    torch.manual_seed(1)
    train_epoch(state, batches)
    assert len(encodings) == len(batches)

    by_hand = start_state(recipe)
    plain = by_hand.adapted.train()
    trained = [parameter for parameter in plain.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in trained if p.ndim > 1], "weight_decay": recipe.optim.weight_decay},
            {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
        ]
    )
    torch.manual_seed(1)
    for step, batch in enumerate(batches):
        set_lr(optimizer, by_hand.schedule.compute_lr(step))
        outputs = segment_batch(get_base(plain), batch, state.device)
        loss = compute_loss(outputs, batch.targets, torch.ones(len(batch.targets)), recipe.loss, batch.valid)
        optimizer.zero_grad()
        loss["total"].backward()
        torch.nn.utils.clip_grad_norm_(trained, recipe.optim.grad_clip)
        optimizer.step()
    for ours, theirs in zip(copy_trained(state.adapted), copy_trained(plain), strict=True):
        assert torch.equal(ours, theirs)


def count_encodings(adapted: AdaptedModel) -> list[None]:
    """Returns a list that grows by one with each pass of the image encoder."""
    passes: list[None] = []
    get_base(adapted).image_encoder.register_forward_hook(lambda *_: passes.append(None))
    return passes


@pytest.mark.parametrize(
    ("name", "n_encodings"), [("regularise__distill", 2), ("regularise__l2_start", 1), ("regularise__drop", 1)]
)
def test_only_distillation_encodes_twice(start_state: Start, draw_batches: Draw, name: str, n_encodings: int) -> None:
    state = start_state(make_recipe(**{name: 0.5}))
    encodings = count_encodings(state.adapted)
    train_epoch(state, draw_batches(state.recipe)[:1])
    assert len(encodings) == n_encodings


def test_weighted_terms_are_reported_and_join_the_total(start_state: Start, draw_batches: Draw) -> None:
    recipe = make_recipe(regularise__distill=3.0, regularise__l2_start=2.0, optim__lr=1e-2)
    losses = train_epoch(start_state(recipe), draw_batches(recipe)).losses
    assert list(losses) == ["total", *PARTS, "distill", "l2_start"]
    assert losses["distill"] > 0 and losses["l2_start"] > 0
    total = weigh_parts(recipe, losses) + 3 * losses["distill"] + 2 * losses["l2_start"]
    assert losses["total"] == pytest.approx(total, rel=1e-5)


def test_distillation_leaves_the_student_s_chance_alone(start_state: Start, draw_batches: Draw) -> None:
    """The zero-shot pass draws no dropout: with a weight next to 0, the first loss is the one without it."""
    totals = []
    for weight in (0.0, 1e-30):
        recipe = make_recipe(adapter__dropout=0.3, regularise__distill=weight, adapter__alpha=64.0)
        state = start_state(recipe)
        torch.manual_seed(1)
        totals.append(train_epoch(state, draw_batches(recipe)).losses["total"])
        assert state.adapted.training
    assert totals[0] == totals[1]

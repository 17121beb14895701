from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

from trainables.adapters.adapted_model import AdaptedModel, attach_adapters, get_base
from trainables.data.store import RegionStore
from trainables.errors import TrainablesError
from trainables.model.weights import load_model
from trainables.protocol.spec import PROTOCOLS
from trainables.recipe import LossRecipe, OptimRecipe, Recipe, Scalar
from trainables.training.batches import Batch, TrainingRegions, iterate_batches
from trainables.training.engine import (
    DivergedError,
    EpochReport,
    count_steps,
    segment_batch,
    to_loss_weights,
    train_epoch,
    weigh_classes,
)
from trainables.training.losses import compute_loss
from trainables.training.micro_batches import MicroBatches
from trainables.training.optim import build_optimizer, build_schedule, compute_lr
from trainables.training.regularisers import start_regularisers

CPU = torch.device("cpu")


@pytest.mark.parametrize(("n_regions", "steps"), [(1, 1), (4, 1), (5, 2), (8, 2), (9, 3)])
def test_the_last_batch_of_an_epoch_may_be_smaller(n_regions: int, steps: int) -> None:
    assert count_steps(n_regions, 4) == steps


def test_loss_weights_are_the_recipe_s() -> None:
    weights = to_loss_weights(LossRecipe(focal=2.0, dice=3.0, iou=4.0, objectness=5.0, focal_gamma=1.5))
    assert dataclasses.asdict(weights) == {
        "focal": 2.0,
        "dice": 3.0,
        "iou": 4.0,
        "objectness": 5.0,
        "focal_gamma": 1.5,
        "focal_alpha": 0.25,
    }


@pytest.fixture
def bcss_like(write_store: Callable[..., RegionStore]) -> RegionStore:
    """One region of 100 x 100 px with BCSS's published pixel shares, and one of tumor alone."""
    shares = {1: 3380, 2: 2620, 4: 690, 3: 590, 18: 50}
    mask = np.zeros(10_000, np.uint8)
    start = 0
    for class_id, count in shares.items():
        mask[start : start + count] = class_id
        start += count
    names = {1: "tumor", 2: "stroma", 3: "lymphocyte", 4: "necrosis", 18: "blood_vessel"}
    tumor = np.zeros((100, 100), np.uint8)
    tumor[:20] = 1
    return write_store({"all": mask.reshape(100, 100), "tumor": tumor}, names, ignore=(0,))


def test_full_strength_gives_the_recorded_class_weights_up_to_scale(bcss_like: RegionStore) -> None:
    weights = weigh_classes(bcss_like, ["all.png"], 1.0)
    assert list(bcss_like.classes) == [1, 2, 3, 4, 18]
    assert (weights / weights[0]).tolist() == pytest.approx([1.0, 1.3, 5.7, 4.9, 67.6], rel=0.02)
    assert float(weights.mean()) == pytest.approx(1)


@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0])
def test_objects_weigh_1_on_average(bcss_like: RegionStore, strength: float) -> None:
    names = ["all.png", "tumor.png"]
    weights = weigh_classes(bcss_like, names, strength)
    objects = torch.tensor([2.0, 1, 1, 1, 1])
    assert float((weights * objects).sum() / objects.sum()) == pytest.approx(1)
    if strength == 0:
        assert weights.tolist() == [1, 1, 1, 1, 1]
    else:
        ratio = (5380 / 50) ** strength
        assert float(weights[4] / weights[0]) == pytest.approx(ratio, rel=1e-5)


def test_a_class_that_training_lacks_leaves_the_others_finite(bcss_like: RegionStore) -> None:
    weights = weigh_classes(bcss_like, ["tumor.png"], 1.0)
    assert float(weights[0]) == 1 and torch.isfinite(weights).all()


def make_adapted(recipe: Recipe) -> AdaptedModel:
    return attach_adapters(load_model("nano", None), recipe.adapter, seed=0)


def make_recipe(**values: Scalar) -> Recipe:
    flat: dict[str, Scalar] = {"augment.kind": "none", "optim.batch_size": 2, "optim.lr": 2e-3}
    return Recipe.from_flat({**flat, **{name.replace("__", "."): value for name, value in values.items()}})


def list_batches(store: RegionStore, recipe: Recipe, epoch: int = 0) -> list[Batch]:
    names = store.names[:4]
    regions = TrainingRegions(store, names, PROTOCOLS["recorded"], recipe, seed=0, epoch=epoch)
    return list(iterate_batches(regions, 0, pin_memory=False))


def train(
    adapted: AdaptedModel,
    optimizer: torch.optim.Optimizer,
    recipe: Recipe,
    batches: list[Batch],
    first_step: int = 0,
    n_steps: int = 8,
) -> EpochReport:
    schedule = build_schedule(recipe.optim, n_steps, n_epochs=1)
    regularisers = start_regularisers(adapted, recipe.regularise, seed=0)
    weights = torch.ones(5)
    return train_epoch(
        adapted, batches, optimizer, recipe, weights, CPU, first_step, schedule, regularisers, MicroBatches()
    )


def test_the_loss_falls_over_a_few_epochs_of_made_tissue(tissue_store: RegionStore) -> None:
    recipe = make_recipe(loss__dice=10.0)
    torch.manual_seed(0)
    adapted = make_adapted(recipe)
    optimizer = build_optimizer(adapted, recipe.optim)
    batches, reports, step = list_batches(tissue_store, recipe), [], 0
    for _ in range(5):
        reports.append(train(adapted, optimizer, recipe, batches, step, n_steps=10))
        step = reports[-1].step
    assert [report.step for report in reports] == [2, 4, 6, 8, 10]
    assert reports[-1].losses["total"] < 0.9 * reports[0].losses["total"]
    assert adapted.training
    assert reports[-1].lr == pytest.approx(2e-4) and all(report.images_per_s > 0 for report in reports)


def test_a_report_gives_the_mean_of_each_part_and_the_last_learning_rate(tissue_store: RegionStore) -> None:
    recipe = make_recipe()
    adapted = make_adapted(recipe)
    optimizer = build_optimizer(adapted, recipe.optim)
    report = train(adapted, optimizer, recipe, list_batches(tissue_store, recipe), first_step=3, n_steps=40)
    losses, loss = report.losses, recipe.loss
    assert list(losses) == ["total", "focal", "dice", "iou", "objectness"]
    total = sum(getattr(loss, part) * losses[part] for part in ("focal", "dice", "iou", "objectness"))
    assert losses["total"] == pytest.approx(total, rel=1e-5)
    assert report.step == 5 and report.lr == compute_lr(4, build_schedule(recipe.optim, 40, 1))
    assert all(group["lr"] == report.lr for group in optimizer.param_groups)


def test_a_loss_that_is_not_finite_ends_training_and_says_when(tissue_store: RegionStore) -> None:
    recipe = make_recipe()
    adapted = make_adapted(recipe)
    optimizer = build_optimizer(adapted, recipe.optim)
    good, bad = list_batches(tissue_store, recipe)
    bad = dataclasses.replace(bad, images=torch.full_like(bad.images, math.nan))
    lr = compute_lr(1, build_schedule(recipe.optim, 8, 1))
    with pytest.raises(DivergedError, match=rf"became nan at step 2 of 8 \(learning rate {lr:.3g}\)"):
        train(adapted, optimizer, recipe, [good, bad])
    assert all(torch.isfinite(parameter).all() for parameter in adapted.parameters())


def test_an_epoch_without_any_object_is_an_error() -> None:
    recipe = make_recipe()
    adapted = make_adapted(recipe)
    with pytest.raises(TrainablesError, match="no training region shows a class"):
        train(adapted, build_optimizer(adapted, recipe.optim), recipe, [])


@pytest.fixture
def plain_sgd() -> Callable[[AdaptedModel], torch.optim.Optimizer]:
    """Steps as long as the gradient: what clipping does can be read off the weights."""
    return lambda adapted: torch.optim.SGD([p for p in adapted.parameters() if p.requires_grad], lr=1.0)


@pytest.mark.parametrize(("grad_clip", "is_clipped"), [(1e-3, True), (0.0, False), (1e6, False)])
def test_gradients_are_clipped_by_their_norm(
    tissue_store: RegionStore,
    plain_sgd: Callable[[AdaptedModel], torch.optim.Optimizer],
    grad_clip: float,
    is_clipped: bool,
) -> None:
    recipe = make_recipe(optim__grad_clip=grad_clip, optim__warmup_fraction=0.0)
    adapted = make_adapted(recipe)
    before = list(copy_trained(adapted))
    train(adapted, plain_sgd(adapted), recipe, list_batches(tissue_store, recipe)[:1])
    moved = math.sqrt(
        sum(float((a - b).square().sum()) for a, b in zip(copy_trained(adapted), before, strict=True))
    )
    lr = OptimRecipe(lr=2e-3).lr
    assert moved > 0
    assert (moved <= lr * 1e-3 * 1.01) == is_clipped


def copy_trained(adapted: AdaptedModel) -> Iterator[torch.Tensor]:
    return (p.detach().clone() for p in adapted.parameters() if p.requires_grad)


def test_class_weights_reach_the_loss(tissue_store: RegionStore) -> None:
    recipe = make_recipe()
    (batch, *_) = list_batches(tissue_store, recipe)
    totals = []
    for factor in (1.0, 3.0):
        adapted = make_adapted(recipe)
        optimizer = build_optimizer(adapted, recipe.optim)
        weights = torch.full((5,), factor)
        schedule = build_schedule(recipe.optim, 8, 1)
        regularisers = start_regularisers(adapted, recipe.regularise, seed=0)
        micro_batches = MicroBatches()
        report = train_epoch(
            adapted, [batch], optimizer, recipe, weights, CPU, 0, schedule, regularisers, micro_batches
        )
        totals.append(report.losses["total"])
    assert totals[1] == pytest.approx(3 * totals[0], rel=1e-4)


def test_without_regularisers_a_step_is_the_plain_one_bit_for_bit(tissue_store: RegionStore) -> None:
    recipe = make_recipe(adapter__dropout=0.3)
    batches = list_batches(tissue_store, recipe)
    adapted = make_adapted(recipe)
    optimizer = build_optimizer(adapted, recipe.optim)
    encodings = count_encodings(adapted)
    torch.manual_seed(1)
    train(adapted, optimizer, recipe, batches)
    assert len(encodings) == len(batches)

    plain = make_adapted(recipe).train()
    trained = [parameter for parameter in plain.parameters() if parameter.requires_grad]
    by_hand = torch.optim.AdamW(
        [
            {"params": [p for p in trained if p.ndim > 1], "weight_decay": recipe.optim.weight_decay},
            {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
        ]
    )
    torch.manual_seed(1)
    for step, batch in enumerate(batches):
        for group in by_hand.param_groups:
            group["lr"] = compute_lr(step, build_schedule(recipe.optim, 8, 1))
        outputs = segment_batch(get_base(plain), batch, CPU)
        weights = to_loss_weights(recipe.loss)
        loss = compute_loss(outputs, batch.targets, torch.ones(len(batch.targets)), weights, batch.valid)
        by_hand.zero_grad()
        loss.total.backward()
        torch.nn.utils.clip_grad_norm_(trained, recipe.optim.grad_clip)
        by_hand.step()
    for ours, theirs in zip(copy_trained(adapted), copy_trained(plain), strict=True):
        assert torch.equal(ours, theirs)


def count_encodings(adapted: AdaptedModel) -> list[None]:
    """Returns a list that grows by one with each pass of the image encoder."""
    passes: list[None] = []
    get_base(adapted).image_encoder.register_forward_hook(lambda *_: passes.append(None))
    return passes


@pytest.mark.parametrize(
    ("name", "n_encodings"), [("regularise__distill", 2), ("regularise__l2_start", 1), ("regularise__drop", 1)]
)
def test_only_distillation_encodes_images_twice(tissue_store: RegionStore, name: str, n_encodings: int) -> None:
    recipe = make_recipe(**{name: 0.5})
    adapted = make_adapted(recipe)
    encodings = count_encodings(adapted)
    train(adapted, build_optimizer(adapted, recipe.optim), recipe, list_batches(tissue_store, recipe)[:1])
    assert len(encodings) == n_encodings


def test_weighted_terms_are_reported_and_join_the_total(tissue_store: RegionStore) -> None:
    recipe = make_recipe(regularise__distill=3.0, regularise__l2_start=2.0, optim__lr=1e-2)
    adapted = make_adapted(recipe)
    optimizer = build_optimizer(adapted, recipe.optim)
    losses = train(adapted, optimizer, recipe, list_batches(tissue_store, recipe)).losses
    assert list(losses) == ["total", "focal", "dice", "iou", "objectness", "distill", "l2_start"]
    assert losses["distill"] > 0 and losses["l2_start"] > 0
    total = sum(getattr(recipe.loss, part) * losses[part] for part in ("focal", "dice", "iou", "objectness"))
    assert losses["total"] == pytest.approx(total + 3 * losses["distill"] + 2 * losses["l2_start"], rel=1e-5)


def test_distillation_leaves_the_student_s_chance_alone(tissue_store: RegionStore) -> None:
    """The zero-shot pass draws no dropout: with a weight next to 0, the first loss is the one without it."""
    totals = []
    for weight in (0.0, 1e-30):
        recipe = make_recipe(adapter__dropout=0.3, regularise__distill=weight, adapter__alpha=64.0)
        adapted = make_adapted(recipe)
        torch.manual_seed(1)
        batches = list_batches(tissue_store, recipe)
        totals.append(train(adapted, build_optimizer(adapted, recipe.optim), recipe, batches).losses["total"])
        assert adapted.training
    assert totals[0] == totals[1]

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from ray import tune
from torch import Tensor

from trainables.context import ADAPTER_FOLDER, RECIPE_FILE, STATE_FILE, TrialContext
from trainables.data.splits import Fold
from trainables.errors import CheckpointError
from trainables.protocol.scores import flatten_scores, join_scores
from trainables.recipe import RecipeError
from trainables.sam2_trainable import SAM2Trainable

# Everything that leaves something to chance is on: dropout, augmentation, mixed prompts, a last batch that is smaller.
CONFIG: dict[str, Any] = {
    "adapter.rank": 4,
    "adapter.dropout": 0.3,
    "adapter.targets": "both",
    "augment.kind": "all",
    "augment.strength": 0.5,
    "prompts.mix": "mixed",
    "prompts.box_jitter": 0.1,
    "optim.lr": 3e-3,
    "loss.class_weight_strength": 0.5,
}
OTHER: dict[str, Any] = {
    "adapter.rank": 2,
    "adapter.targets": "mask_decoder",
    "adapter.train_heads": False,
    "augment.kind": "flips",
    "prompts.mix": "box",
    "optim.lr": 1e-3,
}
Start = Callable[..., SAM2Trainable]
Whole = tuple[list[dict[str, Any]], SAM2Trainable, str]


@pytest.fixture(scope="module")
def context(context: TrialContext) -> TrialContext:
    return replace(context, max_epochs=3, seed=7, fixed={"optim.batch_size": 2, "optim.grad_clip": 1.0})


@pytest.fixture(scope="module")
def start(context: TrialContext, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Starts trials as Ray's actors do, in this process; with changes of their context."""

    def begin(config: dict[str, Any], **changes: Any) -> SAM2Trainable:
        return tune.with_parameters(SAM2Trainable, context=replace(context, **changes))(dict(config))

    with pytest.MonkeyPatch.context() as patch:
        # Ray gives a trial that has no storage a folder below the home directory.
        folder = str(tmp_path_factory.mktemp("ray"))
        patch.setattr("ray.tune.trainable.trainable.DEFAULT_STORAGE_PATH", folder)
        yield begin


@pytest.fixture(scope="module")
def whole(start: Start, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """What three epochs of a trial that was never interrupted reported, the trial, and its checkpoint of the second."""
    trial = start(CONFIG)
    metrics = [trial.train() for _ in range(2)]
    saved = trial.save(str(tmp_path_factory.mktemp("whole")))
    return [*metrics, trial.train()], trial, saved


def take_figures(metrics: dict[str, Any]) -> dict[str, float]:
    """Everything that one epoch measured, but for the time it took."""
    wanted = ("train_loss", "val_", "lr", "trained_parameters")
    return {name: value for name, value in metrics.items() if name.startswith(wanted)}


def copy_weights(trial: SAM2Trainable) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in trial.fits[0].state.adapted.state_dict().items()}


def disturb_global_generator() -> None:
    torch.manual_seed(123)
    torch.rand(17)


def test_a_step_reports_finite_figures_by_their_names(start: Start) -> None:
    trial = start(CONFIG)
    metrics = trial.step()
    pairs = metrics.pop("pairs")
    assert len(pairs) == sum(len(plan.pairs) for plan in trial.val_sets[0].plans)
    assert sum(pairs) / len(pairs) == pytest.approx(metrics["val_dice"])
    classes = {pair.class_id for plan in trial.val_sets[0].plans for pair in plan.pairs}
    names = {trial.fits[0].store.classes[class_id] for class_id in classes}
    assert set(metrics) == {
        "train_loss",
        *(f"train_loss/{part}" for part in ("focal", "dice", "iou", "objectness")),
        "lr",
        "images_per_s",
        "data_wait_fraction",
        "peak_memory_mb",
        "prefix_reused",
        "update_scale",
        "val_dice",
        "val_iou",
        "val_loss",
        "val_dice_min_class",
        *(f"val_{metric}/{name}" for metric in ("dice", "iou") for name in names),
        "trained_parameters",
        "seconds/train",
        "seconds/validate",
    }
    assert metrics["val_dice_min_class"] == min(metrics[f"val_dice/{name}"] for name in names)
    assert len(names) >= 3 and all(math.isfinite(value) for value in metrics.values())
    assert all(0 <= value <= 1 for name, value in metrics.items() if name.startswith(("val_dice", "val_iou")))
    assert trial.fits[0].state.step == 2  # three regions, two a step


def test_a_resumed_trial_goes_on_exactly_as_an_uninterrupted_one(start: Start, whole: Whole) -> None:
    expected, uninterrupted, saved = whole
    reused = start(OTHER)
    reused.train()
    reused.reset(dict(CONFIG))
    for resumed in (start(CONFIG), reused):
        disturb_global_generator()
        resumed.restore(saved)
        assert resumed.iteration == 2
        assert take_figures(resumed.train()) == take_figures(expected[2])
        weights = copy_weights(uninterrupted)
        assert all(torch.equal(value, weights[name]) for name, value in copy_weights(resumed).items())
        assert resumed.fits[0].state.step == uninterrupted.fits[0].state.step


def test_patience_ends_a_trial_as_complete_after_its_warm_up_and_across_a_stop(start: Start, tmp_path: Path) -> None:
    # With no learning rate to speak of the first epoch is the best one.
    still, changes = {**CONFIG, "optim.lr": 1e-8}, {"max_epochs": 6, "patience": 1}
    waits = start({**still, "optim.warmup_epochs": 2.0}, **changes)
    results = [waits.train() for _ in range(3)]
    assert [result["done"] for result in results] == [False, False, True]
    assert results[2]["complete"] and results[2]["stopped_by"] == "patience: val_dice has not risen since epoch 1"
    trial = start(still, **changes)
    assert not trial.train()["done"]
    saved = trial.save(str(tmp_path / "checkpoint"))
    resumed = start(still, **changes)
    resumed.restore(saved)
    assert resumed.train()["done"]


def test_loading_workers_change_nothing(start: Start, whole: Whole) -> None:
    trial = start(CONFIG, n_workers=1)
    for expected in whole[0][:2]:  # the second epoch is loaded ahead, while the first is validated
        assert take_figures(trial.train()) == take_figures(expected)


def test_a_reset_trial_starts_as_a_fresh_one(start: Start) -> None:
    reused = start(CONFIG)
    reused.train()
    assert reused.reset(dict(OTHER))
    fresh = start(OTHER)
    ours, theirs = copy_weights(reused), copy_weights(fresh)
    assert list(ours) == list(theirs)
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    for _ in range(2):
        disturb_global_generator()
        assert take_figures(reused.train()) == take_figures(fresh.train())
    ours, theirs = copy_weights(reused), copy_weights(fresh)
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


def test_a_checkpoint_holds_the_adapter_the_recipe_and_the_optimizer_and_fits_no_other(
    start: Start, whole: Whole, tmp_path: Path
) -> None:
    whole[1].save_checkpoint(str(tmp_path))
    assert {path.name for path in tmp_path.iterdir()} >= {ADAPTER_FOLDER, RECIPE_FILE, STATE_FILE}
    assert set(torch.load(tmp_path / STATE_FILE, weights_only=True)) == {"optimizer", "optimizer_steps"}
    with pytest.raises(CheckpointError, match="of another adapter"):
        start(OTHER).load_checkpoint(str(tmp_path))


def test_searched_values_go_before_fixed_ones_and_must_make_a_recipe(start: Start) -> None:
    assert start({}).recipe.optim.batch_size == 2
    assert start({"optim.batch_size": 3}).recipe.optim.batch_size == 3
    with pytest.raises(RecipeError, match="adapter.rank"):
        start({"adapter.rnak": 4})


def test_divergence_ends_the_trial_with_step_and_learning_rate(start: Start) -> None:
    trial = start({"optim.lr": 1.0, "optim.warmup_fraction": 0.0, "adapter.alpha": 1024.0, "optim.grad_clip": 0.0})
    text = r"the loss became (nan|inf) at step [2-6] of 6 \(learning rate [\d.e-]+\)"
    results: list[dict[str, Any]] = [trial.train()]
    while not results[-1]["done"] and len(results) < 3:
        results.append(trial.train())
    assert re.fullmatch(text, results[-1]["failure"])
    # No checkpoint of this epoch may count as the best one, whatever it is that counts.
    scored = {name for name in results[0] if name.startswith("val_")}
    assert all(math.isnan(results[-1][name]) for name in scored)


def make_folds(context: TrialContext) -> tuple[Fold, Fold]:
    """Two folds of the five regions; the first is the single split."""
    names = (*context.train, *context.val)
    return Fold(names[:3], names[3:]), Fold(names[2:], names[:2])


def test_folds_are_fine_tuned_apart_and_scored_together(start: Start, whole: Whole, context: TrialContext) -> None:
    cross = start(CONFIG, folds=make_folds(context))
    crossed = cross.step()
    parts = [fit.evaluate(regions) for fit, regions in zip(cross.fits, cross.val_sets, strict=True) if regions]
    assert len(parts) == 2 and parts[0].dice == whole[0][0]["val_dice"]
    pairs = [pair.dice for scores in parts for pair in scores.pairs]
    assert crossed["val_dice"] == pytest.approx(sum(pairs) / len(pairs))
    assert {pair.file for scores in parts for pair in scores.pairs} <= set(cross.context.scored)


def test_a_cross_validated_trial_resumes_exactly(start: Start, context: TrialContext, tmp_path: Path) -> None:
    first, second = (start(CONFIG, folds=make_folds(context)) for _ in range(2))
    first.train()
    saved = first.save(str(tmp_path / "checkpoint"))
    second.restore(saved)
    assert take_figures(second.train()) == take_figures(first.train())
    assert sorted(path.name for path in (tmp_path / "checkpoint").glob("fold-*")) == ["fold-0", "fold-1"]


@pytest.mark.parametrize("scales", [(1.0, 0.5), (0.5, 1.0), (0.5,)])
def test_an_epoch_counts_at_the_best_scale_of_its_update(
    start: Start, whole: Whole, context: TrialContext, scales: tuple[float, ...]
) -> None:
    trial = start(CONFIG, scales=scales)
    fit, val_set = trial.fits[0], trial.val_sets[0]
    assert val_set is not None
    for expected in whole[0][: 2 if scales == (1.0, 0.5) else 1]:
        found = trial.train()
        by_scale = {scale: fit.validate(val_set, scale) for scale in scales}
        best = max(scales, key=lambda scale: by_scale[scale][0].dice)
        scores, loss = by_scale[best]
        assert found["update_scale"] == best
        assert (found["val_dice"], found["val_iou"], found["val_loss"]) == (scores.dice, scores.iou, loss)
        assert trial.val_scores == scores and found["pairs"] == [pair.dice for pair in scores.compared]
        assert by_scale.get(1.0, (None, None))[0] is None or by_scale[1.0][0].dice == expected["val_dice"]
        assert found["train_loss"] == expected["train_loss"]  # how it is scored changes nothing that it learns
    assert len({fit.validate(val_set, scale)[0].dice for scale in (1.0, 0.5)}) == 2


@pytest.mark.parametrize("metric", ["val_iou", "val_dice_min_class"])
def test_the_search_s_metric_chooses_the_scale(start: Start, metric: str) -> None:
    trial = start({**CONFIG, "optim.ema_decay": 0.5}, scales=(0.25, 1.25), metric=metric)
    found, fit, val_set = trial.step(), trial.fits[0], trial.val_sets[0]
    assert val_set is not None
    by_scale = {scale: flatten_scores(fit.evaluate(val_set, scale=scale), "val")[metric] for scale in (0.25, 1.25)}
    assert found[metric] == max(by_scale.values()) == by_scale[found["update_scale"]]
    raw = {scale: flatten_scores(fit.evaluate(val_set, False, scale), "val")[metric] for scale in (0.25, 1.25)}
    assert len({*by_scale.values(), *raw.values()}) > 2  # the average is scaled, and is not the weights


def test_an_update_that_cannot_be_scaled_counts_as_trained(start: Start) -> None:
    config = {**CONFIG, "adapter.kind": "dora"}
    found, expected = start(config, scales=(1.0, 0.5)).step(), start(config).step()
    assert take_figures(found) == take_figures(expected) and found["update_scale"] == 1


def test_scales_are_chosen_for_all_folds_together(start: Start, context: TrialContext) -> None:
    cross = start(CONFIG, folds=make_folds(context), scales=(1.0, 0.5))
    found = cross.step()
    by_scale = {
        scale: join_scores(
            [
                fit.validate(regions, scale)[0]
                for fit, regions in zip(cross.fits, cross.val_sets, strict=True)
                if regions
            ]
        ).dice
        for scale in (1.0, 0.5)
    }
    assert found["val_dice"] == max(by_scale.values()) == by_scale[found["update_scale"]]


def test_without_validation_regions_an_epoch_reports_no_score(start: Start) -> None:
    metrics = start(CONFIG, val=()).step()
    assert not any(name.startswith("val_") for name in metrics)
    assert math.isfinite(metrics["train_loss"])


def test_a_trials_own_seed_takes_the_place_of_the_contexts(start: Start, whole: Whole) -> None:
    same, other = start({**CONFIG, "seed": 7, "from_trial": "abc"}), start({**CONFIG, "seed": 8})
    first = take_figures(whole[0][0])
    assert take_figures(same.step()) == first
    assert take_figures(other.step()) != first

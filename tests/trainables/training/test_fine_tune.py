import gc
import shutil
import weakref
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from trainables.adapters.adapted_model import get_base
from trainables.context import TrialContext
from trainables.data.splits import Fold
from trainables.data.store import RegionStore
from trainables.evaluation.candidates import load_adapted
from trainables.evaluation.evaluation_set import EvaluationSet
from trainables.evaluation.evaluator import evaluate
from trainables.model.checkpointed_blocks import checkpoint_blocks
from trainables.model.frozen_prefix import FOLDER
from trainables.model.weights import load_model
from trainables.protocol.spec import PROTOCOLS, add_tiles
from trainables.recipe import Recipe, Scalar
from trainables.tiles.grid import Tiles
from trainables.training.fine_tune import FineTune

N_EPOCHS = 2
WHOLE_ENCODER: dict[str, Scalar] = {"adapter__kind": "none", "adapter__train_encoder": True}


@pytest.fixture
def context(context: TrialContext) -> TrialContext:
    return replace(context, val=(), max_epochs=N_EPOCHS, seed=7)


def start(context: TrialContext, **values: Scalar) -> FineTune:
    flat: dict[str, Scalar] = {"optim.batch_size": 2, "optim.lr": 3e-3, "adapter.dropout": 0.2}
    recipe = Recipe.from_flat({**flat, **{name.replace("__", "."): value for name, value in values.items()}})
    base = load_model(context.model, None).state_dict()
    return FineTune(context, Fold(context.train, ()), base, recipe, torch.device("cpu"))


@pytest.mark.parametrize(
    "values",
    [
        {"regularise__distill": 1.0, "regularise__l2_start": 0.1, "regularise__drop": 0.8},
        {"optim__layer_decay": 0.6, "optim__warmup_epochs": 0.5},
        {**WHOLE_ENCODER, "optim__layer_decay": 0.6, "regularise__l2_start": 0.1},
        {"adapter__kind": "dora", "optim__ema_decay": 0.9, "optim__schedule": "wsd", "optim__update_lr": 1e-3},
    ],
)
def test_a_resumed_fine_tune_goes_on_exactly(context: TrialContext, tmp_path: Path, values: dict[str, Scalar]) -> None:
    whole = start(context, **values)
    reports = [whole.train_epoch(0)]
    whole.save(tmp_path)
    reports.append(whole.train_epoch(1))

    resumed = start(context, **values)
    begun = {name: value.clone() for name, value in resumed.state.regularisers.start.items()}
    resumed.load(tmp_path)
    report = resumed.train_epoch(1)
    assert report.losses == reports[1].losses and report.lr == reports[1].lr
    theirs = dict(whole.state.adapted.named_parameters())
    assert all(torch.equal(value, theirs[name]) for name, value in resumed.state.adapted.named_parameters())
    if whole.state.average is not None and resumed.state.average is not None:
        with whole.state.average.put_in_place(), resumed.state.average.put_in_place():
            theirs = dict(whole.state.adapted.named_parameters())
            assert all(torch.equal(value, theirs[name]) for name, value in resumed.state.adapted.named_parameters())
    ours, expected = resumed.state.optimizer.param_groups, whole.state.optimizer.param_groups
    assert [(g["lr"], g["lr_scale"]) for g in ours] == [(g["lr"], g["lr_scale"]) for g in expected]
    # The start is where the fine-tune began, not what was loaded.
    assert all(torch.equal(value, begun[name]) for name, value in resumed.state.regularisers.start.items())
    if begun:
        assert report.losses["l2_start"] > 0


@pytest.mark.parametrize(
    "values",
    [
        {"optim__ema_decay": 0.9, "regularise__distill": 1.0},
        {"adapter__kind": "dora", "regularise__l2_start": 0.1},
        {"adapter__kind": "bottleneck"},
        {"adapter__targets": "mask_decoder"},
        WHOLE_ENCODER,
    ],
)
def test_a_fine_tune_that_nobody_holds_frees_its_model_at_once(
    context: TrialContext, values: dict[str, Scalar]
) -> None:
    """Python seldom looks for cycles: models of ended trials would fill a GPU."""
    fit = start(context, **values)
    fit.train_epoch(0)
    checkpoint_blocks(get_base(fit.state.adapted))  # as where memory ran out
    fit.train_epoch(1)
    held = weakref.ref(get_base(fit.state.adapted).image_encoder)
    gc.disable()
    try:
        del fit
        assert held() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("values", [{"adapter__targets": "mask_decoder"}, {"adapter__stages": "late"}])
def test_features_that_are_read_change_no_step_and_no_score(
    context: TrialContext, tissue_store: RegionStore, tmp_path: Path, values: dict[str, Scalar]
) -> None:
    """Also where a resumed fine-tune computes what the undisturbed one reads."""
    # A small rate: Adam's first steps are of the rate's size, whatever rounding makes of a gradient near zero.
    values = {**values, "augment__kind": "none", "regularise__distill": 0.5, "optim__lr": 1e-5}
    reading, plain = (start(context, **values) for _ in range(2))
    plain.state.prefix = None
    losses = [(fit.train_epoch(0).losses["total"], fit.train_epoch(1).losses["total"]) for fit in (reading, plain)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert reading.take_reused() > 0.2 and plain.take_reused() == 0
    regions = EvaluationSet(tissue_store, tissue_store.names[3:4], context.protocol)
    (scores, loss), (other, other_loss) = reading.validate(regions), plain.validate(regions)
    assert scores.dice == pytest.approx(other.dice, abs=1e-3) and loss == pytest.approx(other_loss, rel=1e-3)

    shutil.rmtree(tissue_store.folder / FOLDER)
    again = start(context, **values)
    assert (again.train_epoch(0).losses["total"], again.train_epoch(1).losses["total"]) == losses[0]
    assert again.validate(regions) == (scores, loss)


def test_windows_of_tiles_are_drawn_anew_and_resumed_exactly(
    context: TrialContext, tiled_store: RegionStore, tmp_path: Path
) -> None:
    protocol = add_tiles(context.protocol, Tiles(64))
    context = replace(context, store_folder=str(tiled_store.folder), protocol=protocol)
    values: dict[str, Scalar] = {"sampling__kind": "balanced", "sampling__scale_jitter": 0.2, "sampling__windows": 5}
    whole = start(context, **values)
    assert whole.state.schedule.n_steps == 3 * N_EPOCHS  # five windows in batches of two
    whole.train_epoch(0)
    whole.save(tmp_path)
    report = whole.train_epoch(1)
    resumed = start(context, **values)
    resumed.load(tmp_path)
    assert resumed.train_epoch(1).losses == report.losses
    scores, loss = whole.validate(EvaluationSet(tiled_store, ["r3.png"], protocol))
    assert 0 < scores.dice < 1 and loss > 0


def test_the_average_is_what_is_scored_and_saved_and_training_goes_on_as_without(
    context: TrialContext, tissue_store: RegionStore, tmp_path: Path
) -> None:
    context = replace(context, protocol=PROTOCOLS["auto"])
    regions = EvaluationSet(tissue_store, tissue_store.names[3:4], context.protocol)
    plain, averaged = (start(context, class_prompts__tokens=1, optim__ema_decay=decay) for decay in (0.0, 0.9))
    assert plain.train_epoch(0).losses == averaged.train_epoch(0).losses
    (scores, loss), (raw, raw_loss) = averaged.validate(regions), plain.validate(regions)
    assert averaged.evaluate(regions, averaged=False) == raw != scores
    assert loss != raw_loss and min(loss, raw_loss) > 0
    averaged.save(tmp_path)
    assert evaluate(get_base(load_adapted(context, tmp_path)), regions, torch.device("cpu")) == scores


def test_a_strong_pull_to_the_start_keeps_the_model_near_it(context: TrialContext) -> None:
    moved = []
    for weight in (0.0, 1e3):
        fit = start(context, regularise__l2_start=weight, optim__lr=1e-3)
        before = [p.detach().clone() for p in fit.state.adapted.parameters() if p.requires_grad]
        for epoch in range(N_EPOCHS):
            fit.train_epoch(epoch)
        after = [p.detach() for p in fit.state.adapted.parameters() if p.requires_grad]
        moved.append(sum(float((a - b).square().sum()) for a, b in zip(after, before, strict=True)))
    assert 0 < moved[1] < 0.5 * moved[0]


def test_layer_decay_moves_early_blocks_less(context: TrialContext) -> None:
    fit = start(context, **WHOLE_ENCODER, optim__layer_decay=0.3, optim__weight_decay=0.0)
    before = {name: p.detach().clone() for name, p in fit.state.adapted.named_parameters()}
    fit.train_epoch(0)
    steps = {
        # Adam's first steps are about as long as the learning rate, whatever the gradient: the median shows it.
        name: float((p.detach() - before[name]).abs().median())
        for name, p in fit.state.adapted.named_parameters()
        if name.endswith("attn.qkv.weight")
    }
    lengths = [steps[name] for name in sorted(steps, key=lambda name: int(name.split("blocks.")[1].split(".")[0]))]
    ratios = [late / early for early, late in zip(lengths, lengths[1:], strict=False)]
    assert len(ratios) >= 3 and all(2 < ratio < 5 for ratio in ratios)  # 1 / 0.3

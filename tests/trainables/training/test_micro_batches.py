"""A batch that does not fit is trained in parts, and the step is that of the whole batch."""

from __future__ import annotations

import functools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from trainables.adapters.adapted_model import AdaptedModel, attach_adapters
from trainables.data.store import RegionStore
from trainables.model.weights import load_model
from trainables.protocol.spec import PROTOCOLS
from trainables.recipe import Recipe
from trainables.training.batches import Batch, TrainingRegions, iterate_batches
from trainables.training.engine import compute_batch_losses
from trainables.training.micro_batches import Losses, MicroBatches, OutOfMemoryError, split_batch
from trainables.training.regularisers import start_regularisers

RECIPE = Recipe.from_flat({"optim.batch_size": 5, "regularise.distill": 0.5, "regularise.l2_start": 0.1})


@pytest.fixture
def batch(tissue_store: RegionStore) -> Batch:
    """All five regions in one batch, with unequal numbers of objects."""
    regions = TrainingRegions(tissue_store, tissue_store.names, PROTOCOLS["recorded"], RECIPE, seed=0, epoch=0)
    return next(iter(iterate_batches(regions, 0, pin_memory=False)))


@pytest.fixture
def adapted() -> AdaptedModel:
    return attach_adapters(load_model("nano", None), RECIPE.adapter, seed=0).train()


def compute(adapted: AdaptedModel) -> Callable[[Batch], Losses]:
    regularisers = start_regularisers(adapted, RECIPE.regularise, seed=0)
    return functools.partial(
        compute_batch_losses,
        adapted,
        class_weights=torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0]),
        recipe=RECIPE.loss,
        regularisers=regularisers,
        device=torch.device("cpu"),
        step=0,
    )


def fail_above(n_regions: int, function: Callable[[Batch], Losses]) -> Callable[[Batch], Losses]:
    """Runs out of memory as CUDA does, where a part holds more regions; after the forward pass."""

    def limited(batch: Batch) -> Losses:
        losses = function(batch)
        if len(batch.images) > n_regions:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return losses

    return limited


def read_gradients(model: AdaptedModel) -> dict[str, Tensor]:
    return {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}


@pytest.mark.parametrize(("fits", "size"), [(4, 2), (2, 2), (1, 1)])
def test_parts_give_the_whole_batchs_losses_and_gradients(
    batch: Batch, adapted: AdaptedModel, fits: int, size: int
) -> None:
    whole = MicroBatches()
    expected = whole.backward(batch, compute(adapted), adapted.zero_grad)
    gradients = read_gradients(adapted)
    assert whole.regions_per_pass is None
    parts = MicroBatches()
    losses = parts.backward(batch, fail_above(fits, compute(adapted)), adapted.zero_grad)
    assert parts.regions_per_pass == size
    assert {name: float(value) for name, value in losses.items()} == pytest.approx(
        {name: float(value) for name, value in expected.items()}, rel=1e-4
    )
    for name, gradient in read_gradients(adapted).items():
        torch.testing.assert_close(gradient, gradients[name], rtol=1e-3, atol=1e-5)


def test_the_size_of_parts_is_kept_for_the_next_batch(batch: Batch, adapted: AdaptedModel) -> None:
    micro = MicroBatches()
    seen: list[int] = []

    def count(part: Batch) -> Losses:
        seen.append(len(part.images))
        return compute(adapted)(part)

    micro.backward(batch, fail_above(2, count), adapted.zero_grad)
    assert seen == [5, 2, 2, 1]
    seen.clear()
    micro.backward(batch, fail_above(2, count), adapted.zero_grad)
    assert seen == [2, 2, 1]


def test_a_single_region_that_does_not_fit_is_the_end(batch: Batch, adapted: AdaptedModel) -> None:
    with pytest.raises(OutOfMemoryError, match="does not hold a single region"):
        MicroBatches().backward(batch, fail_above(0, compute(adapted)), adapted.zero_grad)


def test_shares_add_up_and_every_object_is_in_one_part(batch: Batch) -> None:
    parts = list(split_batch(batch, 2))
    assert sum(share for _, share in parts) == pytest.approx(1)
    assert torch.equal(torch.cat([part.targets for part, _ in parts]), batch.targets)
    assert all(int(part.region_index.max()) < len(part.images) for part, _ in parts)


def test_a_whole_batch_is_left_as_it_is(batch: Batch) -> None:
    [(part, share)] = split_batch(batch, 5)
    assert part is batch and share == 1.0

"""A batch that does not fit is trained in parts, and the step is that of the whole batch."""

import functools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from trainables.adapters.adapted_model import AdaptedModel, get_base
from trainables.recipe import Recipe
from trainables.training.batches import Batch
from trainables.training.engine import compute_batch_losses, take_step
from trainables.training.micro_batches import Losses, MicroBatches, RegionTooLargeError, split_batch
from trainables.training.state import TrainingState

RECIPE = Recipe.from_flat({"optim.batch_size": 5, "regularise.distill": 0.5, "regularise.l2_start": 0.1})


@pytest.fixture
def batch(draw_batches: Callable[..., list[Batch]]) -> Batch:
    """All five regions in one batch, with unequal numbers of objects."""
    return draw_batches(RECIPE, 5)[0]


@pytest.fixture
def state(start_state: Callable[[Recipe], TrainingState]) -> TrainingState:
    state = start_state(RECIPE)
    state.adapted.train()
    state.class_weights = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])
    return state


@pytest.fixture
def compute(state: TrainingState) -> Callable[[Batch], Losses]:
    return functools.partial(compute_batch_losses, state)


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
    batch: Batch, state: TrainingState, compute: Callable[[Batch], Losses], fits: int, size: int
) -> None:
    whole = MicroBatches()
    expected = whole.backward(batch, compute, state.adapted.zero_grad)
    gradients = read_gradients(state.adapted)
    assert whole.regions_per_pass is None
    parts = MicroBatches()
    losses = parts.backward(batch, fail_above(fits, compute), state.adapted.zero_grad)
    assert parts.regions_per_pass == size
    assert {name: float(value) for name, value in losses.items()} == pytest.approx(
        {name: float(value) for name, value in expected.items()}, rel=1e-4
    )
    for name, gradient in read_gradients(state.adapted).items():
        torch.testing.assert_close(gradient, gradients[name], rtol=1e-3, atol=1e-5)


def test_activations_are_checkpointed_before_a_batch_is_divided(
    start_state: Callable[[Recipe], TrainingState], batch: Batch
) -> None:
    """The weights are the same afterwards, bit for bit: dropout and the scale of the updates hold for both passes."""
    found = []
    for fits in (True, False):
        state = start_state(Recipe.from_flat({"adapter.dropout": 0.3, "regularise.drop": 0.9}))

        def run_out_of_memory(*_: object, state: TrainingState = state) -> None:
            if not state.micro_batches.is_checkpointing:
                raise torch.OutOfMemoryError("CUDA out of memory")

        if not fits:
            get_base(state.adapted).image_encoder.register_forward_pre_hook(run_out_of_memory)
        state.adapted.train()
        torch.manual_seed(0)
        for _ in range(2):  # LoRA's first factors get no gradient before the second step
            take_step(state, batch, lr=1e-2)
        assert state.micro_batches.is_checkpointing != fits and state.micro_batches.regions_per_pass is None
        found.append(list(state.adapted.state_dict().values()))
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_the_size_of_parts_is_kept_for_the_next_batch_and_ends_at_a_region(
    batch: Batch, state: TrainingState, compute: Callable[[Batch], Losses]
) -> None:
    micro = MicroBatches()
    seen: list[int] = []

    def count(part: Batch) -> Losses:
        seen.append(len(part.images))
        return compute(part)

    micro.backward(batch, fail_above(2, count), state.adapted.zero_grad)
    assert seen == [5, 2, 2, 1]
    seen.clear()
    micro.backward(batch, fail_above(2, count), state.adapted.zero_grad)
    assert seen == [2, 2, 1]
    with pytest.raises(RegionTooLargeError, match="does not hold a single region"):
        MicroBatches().backward(batch, fail_above(0, compute), state.adapted.zero_grad)


def test_shares_add_up_and_every_object_is_in_one_part(batch: Batch) -> None:
    parts = list(split_batch(batch, 2))
    assert sum(share for _, share in parts) == pytest.approx(1)
    assert torch.equal(torch.cat([part.targets for part, _ in parts]), batch.targets)
    assert all(int(part.region_index.max()) < len(part.images) for part, _ in parts)
    [(whole, share)] = split_batch(batch, 5)
    assert whole is batch and share == 1.0

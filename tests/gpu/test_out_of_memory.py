"""A GPU whose memory really runs out: activations are checkpointed, then batches divided, with the same gradients."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from trainables.adapters.adapted_model import attach_adapters
from trainables.model.build import MODELS, build_architecture
from trainables.recipe import Recipe
from trainables.training.batches import Batch
from trainables.training.engine import compute_batch_losses
from trainables.training.optim import build_optimizer
from trainables.training.regularisers import start_regularisers
from trainables.training.schedule import build_schedule
from trainables.training.state import TrainingState

N_REGIONS, N_OBJECTS = 4, 3
GRADIENT_BOUND = 1e-3  # relative, in float32: sums have another order


@pytest.fixture
def limit_memory(gpu: torch.device) -> Iterator[Callable[[float], None]]:
    """Leaves this process so many bytes of the GPU."""

    def limit(n_bytes: float) -> None:
        torch.cuda.empty_cache()
        total = torch.cuda.get_device_properties(gpu).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, n_bytes / total))

    yield limit
    torch.cuda.set_per_process_memory_fraction(1.0)


def start(name: str, device: torch.device) -> TrainingState:
    """Starts a fine-tune of a model with random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        bare = build_architecture(MODELS[name])
    recipe = Recipe.from_flat({"optim.batch_size": N_REGIONS, "adapter.layers": "all"})
    adapted = attach_adapters(bare, recipe.adapter, seed=0).to(device).train()
    with torch.no_grad():
        generator = torch.Generator().manual_seed(1)
        for parameter in adapted.parameters():
            if parameter.requires_grad:  # else LoRA's first factors would get no gradient
                parameter += 0.02 * torch.randn(parameter.shape, generator=generator).to(device)
    optimizer, schedule = build_optimizer(adapted, recipe.optim), build_schedule(recipe.optim, 1, 1)
    regularisers = start_regularisers(adapted, recipe.regularise, seed=0)
    return TrainingState(recipe, device, adapted, optimizer, schedule, regularisers, torch.ones(5, device=device))


def draw_batch(side: int, device: torch.device) -> Batch:
    """Draws regions of noise, with boxes."""
    generator, n = torch.Generator().manual_seed(2), N_REGIONS * N_OBJECTS
    corners = torch.tensor([[0.1, 0.2], [0.6, 0.8]]) * side
    targets = (torch.rand(n, side // 4, side // 4, generator=generator) > 0.5).float()
    batch = Batch(
        images=torch.randint(256, (N_REGIONS, side, side, 3), generator=generator, dtype=torch.uint8),
        region_index=torch.arange(N_REGIONS).repeat_interleave(N_OBJECTS),
        points=corners.expand(n, 2, 2).contiguous(),
        labels=torch.tensor([[2, 3]], dtype=torch.int32).expand(n, 2).contiguous(),
        targets=targets,
        class_index=torch.arange(n) % 5,
        valid=torch.ones_like(targets),
    )
    return batch.to(device)


def take_gradient(state: TrainingState, batch: Batch) -> Tensor:
    """Returns the gradient of the batch's loss, as training computes it."""
    state.micro_batches.backward(batch, lambda part: compute_batch_losses(state, part), state.optimizer.zero_grad)
    return torch.cat([p.grad.flatten() for p in state.adapted.parameters() if p.grad is not None])


def count_peak_bytes(action: Callable[[], object]) -> int:
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    action()
    return torch.cuda.max_memory_allocated()  # what is reserved has gaps, in which a limit below it would still fit


@pytest.mark.gpu
def test_memory_that_runs_out_changes_no_gradient(
    gpu: torch.device, limit_memory: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "trainables.training.engine.autocast", lambda device: torch.autocast(device.type, enabled=False)
    )
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    state, batch = start("tiny", gpu), draw_batch(MODELS["tiny"].side_px, gpu)
    gradients: list[Tensor] = []
    whole_bytes = count_peak_bytes(lambda: gradients.append(take_gradient(state, batch)))
    assert not state.micro_batches.is_checkpointing
    [expected] = gradients

    limit_memory(0.9 * whole_bytes)
    check_gradient(take_gradient(state, batch), expected)
    assert state.micro_batches.is_checkpointing and state.micro_batches.regions_per_pass is None
    checkpointed_bytes = count_peak_bytes(lambda: take_gradient(state, batch))
    assert checkpointed_bytes < 0.9 * whole_bytes

    # Once more from the start: it finds by itself that neither the whole nor its checkpointed form fits.
    state.optimizer.zero_grad()
    held_bytes = torch.cuda.memory_allocated()
    state = start("tiny", gpu)
    limit_memory(held_bytes + 0.7 * (checkpointed_bytes - held_bytes))
    check_gradient(take_gradient(state, batch), expected)
    assert state.micro_batches.is_checkpointing and state.micro_batches.regions_per_pass in (1, 2)


def check_gradient(found: Tensor, expected: Tensor) -> None:
    assert float((found - expected).norm() / expected.norm()) < GRADIENT_BOUND


@pytest.mark.slow
def test_the_batch_of_noise_trains() -> None:
    """On a CPU, with nano: the functions above compute what training does."""
    state, batch = start("nano", torch.device("cpu")), draw_batch(MODELS["nano"].side_px, torch.device("cpu"))
    expected = take_gradient(state, batch)
    state.micro_batches.regions_per_pass = 1
    check_gradient(take_gradient(state, batch), expected)
    assert float(expected.norm()) > 0

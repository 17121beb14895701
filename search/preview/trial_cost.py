"""What one trial costs, measured: a few real training steps, validated regions, and a checkpoint, thrown away."""

import itertools
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from trainables.context import TrialContext
from trainables.data.store import RegionStore
from trainables.evaluation.evaluation_set import EvaluationSet
from trainables.model.device import forget_peak_memory, pick_device, read_peak_memory_mb
from trainables.model.weights import load_model
from trainables.recipe import Recipe, Scalar
from trainables.training.engine import train_epoch
from trainables.training.fine_tune import FineTune, make_loader

N_STEPS = 2
_N_SCORED = 2


@dataclass(frozen=True)
class TrialCost:
    """What one trial of a fold costs.

    Attributes:
        seconds_per_step: Of training, over ``N_STEPS`` steps after one that is not counted.
        seconds_per_scored: Of validation, for one region.
        steps_per_epoch: Of the fold.
        scored_per_epoch: Regions of the fold's validation.
        memory_mb: Greatest memory of the GPU, in MB (10^6 bytes); without one of the process.
        checkpoint_mb: Of one epoch, in MB.
        weights_mb: Of the whole model, as the export holds them, in MB.
        device: ``cuda`` or ``cpu``.
    """

    seconds_per_step: float
    seconds_per_scored: float
    steps_per_epoch: int
    scored_per_epoch: int
    memory_mb: float
    checkpoint_mb: float
    weights_mb: float
    device: str

    @property
    def seconds_per_epoch(self) -> float:
        """Training and validation."""
        return self.seconds_per_step * self.steps_per_epoch + self.seconds_per_scored * self.scored_per_epoch


def measure_trial(context: TrialContext, values: Mapping[str, Scalar], n_threads: int) -> TrialCost:
    """Trains the first fold of one trial for a few steps, in this process and on as many threads as a trial has.

    Raises:
        TrainablesError: If the loss is not finite, or a region does not fit the GPU.
    """
    torch.set_num_threads(n_threads)
    device, fold = pick_device(), context.list_folds()[0]
    recipe = Recipe.from_flat({**context.fixed, **values})
    base_state = load_model(context.model, context.checkpoint).state_dict()
    loader = make_loader(context, recipe, device)
    fit = FineTune(context, fold, base_state, recipe, device, loader)
    forget_peak_memory(device)
    # An epoch of a small data set has fewer steps.
    batches = itertools.chain.from_iterable(loader.load(epoch, fold.train) for epoch in range(N_STEPS + 1))
    train_epoch(fit.state, itertools.islice(batches, 1))  # imports, allocates, compiles
    first = fit.state.step
    started = time.perf_counter()
    train_epoch(fit.state, itertools.islice(batches, N_STEPS))
    seconds_per_step = (time.perf_counter() - started) / (fit.state.step - first)
    scored = fold.val[:_N_SCORED]
    regions = EvaluationSet(RegionStore.open(Path(context.store_folder)), scored, context.protocol, fold.train)
    started = time.perf_counter()
    fit.validate(regions)
    seconds_per_scored = (time.perf_counter() - started) / len(scored)
    with tempfile.TemporaryDirectory() as name:
        fit.save(Path(name))
        checkpoint = sum(path.stat().st_size for path in Path(name).rglob("*") if path.is_file())
    return TrialCost(
        seconds_per_step,
        seconds_per_scored,
        fit.state.schedule.n_steps // context.max_epochs,
        len(fold.val),
        read_peak_memory_mb(device),
        checkpoint / 1e6,
        sum(tensor.numel() * tensor.element_size() for tensor in base_state.values()) / 1e6,
        device.type,
    )

"""What a trial costs, measured: a few real training steps, a few validated regions, and a checkpoint, thrown away."""

import itertools
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from trainables.context import TrialContext
from trainables.data.store import RegionStore
from trainables.evaluation.evaluation_set import EvaluationSet
from trainables.evaluation.evaluator import TILES_PER_PASS
from trainables.model.device import pick_device, read_peak_memory_mb, read_total_memory_mb
from trainables.model.weights import load_model
from trainables.recipe import Recipe, Scalar
from trainables.training.engine import EpochReport, train_epoch
from trainables.training.fine_tune import FineTune, make_loader

N_STEPS = 2


@dataclass(frozen=True)
class Memory:
    """What a trial took of the GPU's memory, without one of the process's, in MB (10^6 bytes), and whether it all fit.

    Attributes:
        peak_mb: The greatest.
        total_mb: Of the GPU, or of the machine.
        is_whole: Whether whole batches fit as they are.
    """

    peak_mb: float
    total_mb: float
    is_whole: bool


@dataclass(frozen=True)
class TrialCost:
    """What one trial costs; time, steps, regions and checkpoints are those of one fold.

    Attributes:
        seconds_per_step: Of training, over ``N_STEPS`` steps after one that is not counted; loading included, which the
            context's loaders do at the same time.
        seconds_per_scored: Of validation, for one region at all scales of the update.
        steps_per_epoch: Of the fold.
        scored_per_epoch: Regions of the fold's validation.
        memory: With the models of all folds, which a trial holds at once.
        checkpoint_mb: Of one epoch, in MB.
        weights_mb: Of the whole model, as the export holds them, in MB.
        device: ``cuda`` or ``cpu``.
    """

    seconds_per_step: float
    seconds_per_scored: float
    steps_per_epoch: int
    scored_per_epoch: int
    memory: Memory
    checkpoint_mb: float
    weights_mb: float
    device: str

    @property
    def seconds_per_epoch(self) -> float:
        """Training and validation."""
        return self.seconds_per_step * self.steps_per_epoch + self.seconds_per_scored * self.scored_per_epoch


def measure_trial(context: TrialContext, values: Mapping[str, Scalar]) -> TrialCost:
    """Trains and validates a recipe for a few steps on this process's device, as a trial does.

    The recipe is the context's with other values by flat name.

    Raises:
        TrainablesError: If the loss is not finite, or not even one region fits the GPU.
    """
    n_workers, device = context.n_workers, pick_device()
    context = replace(context, n_workers=0)
    recipe = Recipe.from_flat({**context.fixed, **values})
    store, base = RegionStore(context.store_folder), load_model(context.model, context.checkpoint)
    base_state, loader = base.state_dict(), make_loader(context, recipe, device)
    fits = [FineTune(context, fold, base_state, recipe, device, loader) for fold in context.list_folds()]
    reports, seconds_per_step, seconds_per_scored = list[EpochReport](), 0.0, 0.0
    for index, fit in enumerate(fits):
        # An epoch of a small data set has fewer steps.
        batches = itertools.chain.from_iterable(loader.load(epoch, fit.fold.train) for epoch in range(N_STEPS + 1))
        reports.append(train_epoch(fit.state, itertools.islice(batches, 1)))  # imports, allocates, compiles
        if index == 0:
            first, started = fit.state.step, time.perf_counter()
            ready = list(itertools.islice(batches, N_STEPS))
            loaded = time.perf_counter()
            reports.append(train_epoch(fit.state, ready))
            load_s, train_s = loaded - started, time.perf_counter() - loaded
            # Processes load while another step is taken, and without them training does it.
            seconds = max(train_s, load_s / n_workers) if n_workers else train_s + load_s
            seconds_per_step = seconds / (fit.state.step - first)
        if scored := fit.fold.val[:TILES_PER_PASS]:
            regions = EvaluationSet(store, scored, context.protocol, fit.fold.train)
            started = time.perf_counter()
            for scale in fit.list_scales():
                fit.validate(regions, scale)
            seconds_per_scored = seconds_per_scored or (time.perf_counter() - started) / len(scored)
    peak_mb = max(read_peak_memory_mb(device), *(report.peak_memory_mb for report in reports))
    is_whole = not any(report.is_checkpointing for report in reports)
    with tempfile.TemporaryDirectory() as name:
        fits[0].save(Path(name))
        checkpoint = sum(path.stat().st_size for path in Path(name).rglob("*") if path.is_file())
    return TrialCost(
        seconds_per_step,
        seconds_per_scored,
        steps_per_epoch=fits[0].state.schedule.n_steps // context.max_epochs,
        scored_per_epoch=len(fits[0].fold.val),
        memory=Memory(peak_mb, read_total_memory_mb(device), is_whole),
        checkpoint_mb=checkpoint / 1e6,
        weights_mb=sum(tensor.numel() * tensor.element_size() for tensor in base_state.values()) / 1e6,
        device=device.type,
    )

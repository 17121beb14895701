"""A training step and a validation that nobody keeps, which show how much memory a trial takes."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from trainables.context import TrialContext
from trainables.data.store import RegionStore
from trainables.evaluation.evaluation_set import EvaluationSet
from trainables.model.device import pick_device, read_peak_memory_mb, read_total_memory_mb
from trainables.model.weights import load_model
from trainables.recipe import Recipe, Scalar
from trainables.training.engine import train_epoch
from trainables.training.fine_tune import FineTune, make_loader

# Regions that are validated: as many as the evaluator encodes at once.
N_VALIDATED = 4


@dataclass(frozen=True)
class DryStep:
    """What a step took of a device's memory, in MB (10^6 bytes), and whether whole batches fit as they are."""

    peak_mb: float
    total_mb: float
    is_whole: bool


def take_dry_step(context: TrialContext, values: Mapping[str, Scalar]) -> DryStep:
    """Trains a recipe for one step on this process's device, and validates on a few regions, as a trial does.

    The recipe is the context's with other values by flat name; cross-validation holds the models of all folds at once.

    Raises:
        RegionTooLargeError: If not even one region fits the GPU.
    """
    context, device = replace(context, n_workers=0), pick_device()
    recipe = Recipe.from_flat({**context.fixed, **values})
    store, base = RegionStore.open(Path(context.store_folder)), load_model(context.model, context.checkpoint)
    loader = make_loader(context, recipe, device)
    fits = [FineTune(context, fold, base.state_dict(), recipe, device, loader) for fold in context.list_folds()]
    reports = []
    for fit in fits:
        reports.append(train_epoch(fit.state, itertools.islice(loader.load(0, fit.fold.train), 1)))
        if val := fit.fold.val[:N_VALIDATED]:
            fit.evaluate(EvaluationSet(store, val, context.protocol, fit.fold.train))
    peak_mb = max(read_peak_memory_mb(device), *(report.peak_memory_mb for report in reports))
    is_whole = not any(report.is_checkpointing for report in reports)
    return DryStep(peak_mb, read_total_memory_mb(device), is_whole)

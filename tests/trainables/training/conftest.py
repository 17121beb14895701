"""Fixtures of several test files: fine-tunes of nano that have taken no step, and batches of synthetic tissue."""

from collections.abc import Callable

import pytest
import torch

from trainables.adapters.adapted_model import attach_adapters
from trainables.data.store import RegionStore
from trainables.model.weights import load_model
from trainables.protocol.spec import PROTOCOLS
from trainables.recipe import Recipe
from trainables.training.batches import Batch, TrainingRegions
from trainables.training.loader import BatchLoader
from trainables.training.optim import build_optimizer
from trainables.training.regularisers import start_regularisers
from trainables.training.schedule import build_schedule
from trainables.training.state import TrainingState


@pytest.fixture
def start_state() -> Callable[..., TrainingState]:
    """Starts fine-tunes of a recipe, in which all classes weigh alike."""

    def start(recipe: Recipe, n_steps: int = 8) -> TrainingState:
        adapted = attach_adapters(load_model("nano", None), recipe.adapter, seed=0)
        optimizer, schedule = build_optimizer(adapted, recipe.optim), build_schedule(recipe.optim, n_steps, 1)
        regularisers = start_regularisers(adapted, recipe.regularise, seed=0)
        return TrainingState(recipe, torch.device("cpu"), adapted, optimizer, schedule, regularisers, torch.ones(5))

    return start


@pytest.fixture
def draw_batches(tissue_store: RegionStore) -> Callable[..., list[Batch]]:
    """Draws the batches of an epoch over the first regions."""

    def draw(recipe: Recipe, n_regions: int = 4) -> list[Batch]:
        names, protocol = tissue_store.names[:n_regions], PROTOCOLS["recorded"]
        regions = TrainingRegions(tissue_store, protocol, recipe, seed=0)
        return list(BatchLoader(regions, n_workers=0, pin_memory=False).load(0, names))

    return draw

"""One fine-tune on one fold, in plain PyTorch: the adapted model, its optimizer, how both are saved."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor

from trainables.adapters.adapted_model import (
    attach_adapters,
    count_parameters,
    get_base,
    load_adapter_weights,
    save_adapters,
)
from trainables.context import ADAPTER_FOLDER, RECIPE_FILE, STATE_FILE, TrialContext
from trainables.data.folds import Fold
from trainables.data.store import RegionStore
from trainables.evaluation.evaluation_set import EvaluationSet
from trainables.evaluation.evaluator import evaluate
from trainables.model.build import MODELS, build_architecture
from trainables.model.class_prompts import (
    attach_class_prompts,
    find_class_prompts,
    load_class_prompts,
    save_class_prompts,
    start_class_prompts,
)
from trainables.model.fusion import add_fusion
from trainables.protocol.scores import Scores
from trainables.recipe import Recipe
from trainables.training.batches import TrainingRegions, iterate_batches
from trainables.training.engine import EpochReport, count_steps, train_epoch, weigh_classes
from trainables.training.micro_batches import MicroBatches
from trainables.training.optim import build_optimizer, build_schedule
from trainables.training.regularisers import start_regularisers


class FineTune:
    """Adapters and class prompts that learn from a fold's training regions and are scored on its validation regions."""

    def __init__(
        self,
        context: TrialContext,
        fold: Fold,
        val_set: EvaluationSet | None,
        base_state: dict[str, Tensor],
        recipe: Recipe,
        seed: int,
        device: torch.device,
    ) -> None:
        """Builds the adapted model and its optimizer.

        Args:
            context: What all trials share.
            fold: Which regions train.
            val_set: The fold's validation regions; None where there are none.
            base_state: The bare model's weights; not changed.
            recipe: The fine-tune.
            seed: Of adapters, augmentation, prompts, dropout and dropped updates.
            device: Where the model lies.
        """
        self.context, self.fold, self.val_set = context, fold, val_set
        self.recipe, self.seed, self.device = recipe, seed, device
        self.store = RegionStore.open(Path(context.store_folder))
        # A fresh model each time: what PEFT's unload leaves behind depends on the kind of adapter.
        bare = build_architecture(MODELS[context.model])
        bare.load_state_dict(base_state)
        self.adapted = attach_adapters(bare, recipe.adapter, seed).to(device)
        add_fusion(get_base(self.adapted), recipe.fusion, context.pathology_weights, seed)
        if recipe.class_prompts.tokens:
            base, n_classes = get_base(self.adapted), len(self.store.classes)
            prompts = start_class_prompts(base, n_classes, recipe.class_prompts.tokens, seed)
            attach_class_prompts(base, prompts)
        self.optimizer = build_optimizer(self.adapted, recipe.optim)
        self.regularisers = start_regularisers(self.adapted, recipe.regularise, seed)
        self.class_weights = weigh_classes(self.store, fold.train, recipe.loss.class_weight_strength)
        self.n_trained = count_parameters(self.adapted)[0]
        self.micro_batches = MicroBatches()
        self.optimizer_steps = 0

    def train_epoch(self, epoch: int) -> EpochReport:
        """Trains one epoch, counted from 0; what it leaves to chance depends on seed and epoch alone."""
        context = self.context
        # Dropout draws from the global generator: seeded by epoch, a resumed trial goes on as it would have.
        torch.manual_seed(self.seed * 1_000_003 + epoch)
        regions = TrainingRegions(
            self.store, self.fold.train, context.protocol, self.recipe, self.seed, epoch
        )
        n_steps = count_steps(len(regions), self.recipe.optim.batch_size) * context.max_epochs
        report = train_epoch(
            self.adapted,
            iterate_batches(regions, context.n_workers, pin_memory=self.device.type == "cuda"),
            self.optimizer,
            self.recipe,
            self.class_weights,
            self.device,
            self.optimizer_steps,
            build_schedule(self.recipe.optim, n_steps, context.max_epochs),
            self.regularisers,
            self.micro_batches,
        )
        self.optimizer_steps = report.step
        return report

    def evaluate(self) -> Scores | None:
        """Scores the model on the fold's validation regions; None where there are none."""
        if self.val_set is None:
            return None
        return evaluate(get_base(self.adapted), self.val_set, self.device)

    def save(self, folder: Path) -> None:
        """Writes the adapter as PEFT does, class prompts if any, the recipe, and what training needs to go on."""
        save_adapters(self.adapted, folder / ADAPTER_FOLDER)
        if (prompts := find_class_prompts(get_base(self.adapted))) is not None:
            save_class_prompts(prompts, folder)
        (folder / RECIPE_FILE).write_text(json.dumps(self.recipe.to_flat(), indent=1))
        state = {"optimizer": self.optimizer.state_dict(), "optimizer_steps": self.optimizer_steps}
        torch.save(state, folder / STATE_FILE)

    def load(self, folder: Path) -> None:
        """Goes on from :meth:`save`."""
        load_adapter_weights(self.adapted, folder / ADAPTER_FOLDER)
        if (prompts := find_class_prompts(get_base(self.adapted))) is not None:
            prompts.load_state_dict(load_class_prompts(folder).state_dict())
        # On the CPU: moments go to their parameters' device, and counts of steps stay, as in an optimizer that is new.
        state = torch.load(folder / STATE_FILE, map_location="cpu", weights_only=True)
        self.optimizer.load_state_dict(state["optimizer"])
        self.optimizer_steps = state["optimizer_steps"]

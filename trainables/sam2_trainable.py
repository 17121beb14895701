"""One fine-tune of SAM2 as a Ray Tune trainable: one step is one epoch."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import torch
from ray import tune

from trainables.checkpoint import load_model
from trainables.context import ADAPTER_FOLDER, RECIPE_FILE, STATE_FILE, TrialContext
from trainables.data.batches import TrainingRegions, iterate_batches
from trainables.data.store import RegionStore
from trainables.device import pick_device
from trainables.engine import EpochReport, count_steps, train_epoch, weigh_classes
from trainables.evaluate import EvaluationSet, Scores, evaluate
from trainables.model.adapters import (
    attach_adapters,
    count_parameters,
    get_base,
    load_adapter_weights,
    save_adapters,
)
from trainables.model.build import MODELS, build_architecture
from trainables.optim import build_optimizer
from trainables.recipe import Recipe


class SAM2Trainable(tune.Trainable):
    """Fine-tunes adapters by a recipe; the config holds the recipe's searched fields by their flat names."""

    # Ray hands the context over by name (tune.with_parameters), which its own signature does not tell.
    def setup(  # type: ignore[override]
        self, config: dict[str, Any], context: TrialContext
    ) -> None:
        """Loads the model and the regions once; they serve every trial that this actor runs."""
        context.use_threads()
        self.context = context
        self.device = pick_device()
        self.store = RegionStore.open(Path(context.store_folder))
        self.val_set = EvaluationSet(self.store, context.val, context.protocol)
        bare = load_model(context.model, context.checkpoint)
        self.base_state = bare.state_dict()
        self._start_trial(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Starts another trial in this process: the imports it spares cost more than a new model."""
        self._start_trial(new_config)
        return True

    def _start_trial(self, config: dict[str, Any]) -> None:
        context = self.context
        # A fresh model each time: what PEFT's unload leaves behind depends on the kind of adapter.
        bare = build_architecture(MODELS[context.model])
        bare.load_state_dict(self.base_state)
        self.recipe = Recipe.from_flat({**context.fixed, **config})
        self.adapted = attach_adapters(bare, self.recipe.adapter, context.seed).to(self.device)
        self.optimizer = build_optimizer(self.adapted.parameters(), self.recipe.optim)
        self.class_weights = weigh_classes(
            self.store, context.train, self.recipe.loss.class_weight_strength
        )
        self.n_trained = count_parameters(self.adapted)[0]
        self.optimizer_steps = 0

    def step(self) -> dict[str, Any]:
        """Trains one epoch and validates; returns the epoch's metrics."""
        start = time.perf_counter()
        report = self._train_epoch(epoch=self.iteration)
        trained = time.perf_counter()
        scores = evaluate(get_base(self.adapted), self.val_set, self.device)
        return {
            **flatten_report(report),
            **flatten_scores(scores, "val"),
            "trained_parameters": self.n_trained,
            "seconds/train": trained - start,
            "seconds/validate": time.perf_counter() - trained,
        }

    def _train_epoch(self, epoch: int) -> EpochReport:
        context = self.context
        # Dropout draws from the global generator: seeded by epoch, a resumed trial goes on as it would have.
        torch.manual_seed(context.seed * 1_000_003 + epoch)
        regions = TrainingRegions(
            self.store, context.train, context.protocol, self.recipe, context.seed, epoch
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
            n_steps,
        )
        self.optimizer_steps = report.step
        return report

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Writes the adapter as PEFT does, and what training needs to go on."""
        folder = Path(checkpoint_dir)
        save_adapters(self.adapted, folder / ADAPTER_FOLDER)
        (folder / RECIPE_FILE).write_text(json.dumps(self.recipe.to_flat(), indent=1))
        state = {"optimizer": self.optimizer.state_dict(), "optimizer_steps": self.optimizer_steps}
        torch.save(state, folder / STATE_FILE)

    def load_checkpoint(self, checkpoint_dir: str) -> None:  # type: ignore[override]  # never a dict here
        """Goes on from :meth:`save_checkpoint`."""
        folder = Path(checkpoint_dir)
        load_adapter_weights(self.adapted, folder / ADAPTER_FOLDER)
        state = torch.load(folder / STATE_FILE, map_location=self.device, weights_only=True)
        self.optimizer.load_state_dict(state["optimizer"])
        self.optimizer_steps = state["optimizer_steps"]


def flatten_report(report: EpochReport) -> dict[str, float]:
    """Names an epoch's figures for logs: ``train_loss``, ``train_loss/<part>``, ``lr``, ``images_per_s``."""
    losses = {f"train_loss/{name}": value for name, value in report.losses.items() if name != "total"}
    return {
        "train_loss": report.losses["total"],
        **losses,
        "lr": report.lr,
        "images_per_s": report.images_per_s,
    }


def flatten_scores(scores: Scores, split: str) -> dict[str, float]:
    """Names scores for logs: ``val_dice``, ``val_iou``, ``val_dice/<class>``, ``val_iou/<class>``."""
    return {f"{split}_{name}": value for name, value in scores.to_flat().items()}

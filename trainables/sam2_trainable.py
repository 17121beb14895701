"""Fine-tunes of SAM2 as a Ray Tune trainable: one step is one epoch, of one fine-tune for each fold."""

import dataclasses
import json
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ray import tune

from trainables.context import (
    COMPLETE,
    DIVERGED,
    FAILURE,
    PAIRS,
    PATIENCE_FILE,
    RECIPE_FILE,
    SEED_KEY,
    STOPPED_BY,
    UPDATE_SCALE,
    TrialContext,
)
from trainables.data.store import RegionStore
from trainables.evaluation.evaluation_set import EvaluationSet
from trainables.files.manifest import seal_checkpoint
from trainables.model.device import pick_device, use_ray_share
from trainables.model.weights import load_model
from trainables.protocol.scores import Scores, flatten_scores, join_scores
from trainables.recipe import Recipe
from trainables.training.engine import DivergedError, EpochReport
from trainables.training.fine_tune import FineTune, make_loader
from trainables.training.loader import BatchLoader


class SAM2Trainable(tune.Trainable):
    """Fine-tunes adapters by a recipe, on each fold; the config holds the recipe's fields by their flat names.

    Names without a dot are no recipe fields: ``seed`` replaces the context's, others are ignored here.

    Attributes:
        val_scores: Every pair's score after the last epoch; None before the first, and without validation regions.
    """

    def setup(  # type: ignore[override]  # Ray passes the context by name (tune.with_parameters)
        self, config: dict[str, Any], context: TrialContext
    ) -> None:
        """Loads the model and the regions once; they serve every trial that this actor runs."""
        use_ray_share()
        self.context = context
        self.device = pick_device()
        store = RegionStore(context.store_folder)
        self.val_sets = [
            EvaluationSet(store, fold.val, context.protocol, fold.train) if fold.val else None
            for fold in context.list_folds()
        ]
        self.classes = tuple(store.classes.values())
        self.base_state = load_model(context.model, context.checkpoint).state_dict()
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Starts another trial in this process, as imports take longer than a new model."""
        context = self.context
        searched = {name: value for name, value in new_config.items() if "." in name}
        self.recipe = Recipe.from_flat({**context.fixed, **searched})
        own = dataclasses.replace(context, seed=int(new_config.get(SEED_KEY, context.seed)))
        self.val_scores: Scores | None = None
        self.best_value, self.best_epoch = -math.inf, 0  # of what patience watches; epochs count from 1
        # Ends the last trial's loaders and frees its models before the next ones are built.
        self.fits: list[FineTune] = []
        self.loader: BatchLoader | None = None
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        self.loader = make_loader(own, self.recipe, self.device)
        arguments = self.base_state, self.recipe, self.device, self.loader
        self.fits = [FineTune(own, fold, *arguments) for fold in context.list_folds()]
        return True

    def step(self) -> dict[str, Any]:
        """Trains one epoch on each fold and validates; returns the epoch's metrics.

        If the loss is NaN or infinite, the trial ends itself with the reason: Tune would retry after an exception.
        """
        start = time.perf_counter()
        try:
            reports = [fit.train_epoch(epoch=self.iteration) for fit in self.fits]
        except DivergedError as error:
            return {**self._name_nothing(), FAILURE: str(error), DIVERGED: True, "done": True}
        trained = time.perf_counter()
        if self.loader is not None and self.iteration + 1 < self.context.max_epochs:
            self.loader.begin(self.iteration + 1, self.fits[0].fold.train)  # during the validation
        figures = self._validate()
        return {
            **flatten_reports(reports),
            **figures,
            **self._lose_patience(figures),
            **({PAIRS: [pair.dice for pair in self.val_scores.compared]} if self.val_scores else {}),
            "trained_parameters": self.fits[0].n_trained,
            "prefix_reused": float(np.mean([fit.take_reused() for fit in self.fits])),
            "seconds/train": trained - start,
            "seconds/validate": time.perf_counter() - trained,
        }

    def _validate(self) -> dict[str, float]:
        """Returns the figures of validation at the scale of the update that is best by the search's metric.

        Among equals it is the first of the context's. Without validation regions there are no figures.
        """
        pairs = [(fit, val_set) for fit, val_set in zip(self.fits, self.val_sets, strict=True) if val_set is not None]
        best: dict[str, float] = {}
        scales = self.fits[0].list_scales() if pairs else ()
        for scale in scales:
            found = [fit.validate(val_set, scale) for fit, val_set in pairs]
            scores = join_scores([each for each, _ in found])
            figures = flatten_scores(scores, "val") | {"val_loss": float(np.mean([loss for _, loss in found]))}
            if not best or figures[self.context.metric] > best[self.context.metric]:
                self.val_scores, best = scores, figures | {UPDATE_SCALE: scale}
        return best

    def _name_nothing(self) -> dict[str, float]:
        """Returns NaN for each figure of validation, so that no checkpoint of such an epoch counts as the best."""
        kinds = ("val_dice", "val_iou")
        names = [*kinds, *(f"{kind}/{name}" for kind in kinds for name in self.classes), "val_dice_min_class"]
        names += ["val_loss", "train_loss"]
        return {**dict.fromkeys(names, math.nan), "trained_parameters": self.fits[0].n_trained}

    def _lose_patience(self, figures: Mapping[str, float]) -> dict[str, Any]:
        """Returns what ends the trial if the best validation is too many epochs ago; those of the warm-up do not count.

        The rule is early stopping with patience (Prechelt 1998).
        """
        context, epoch = self.context, self.iteration + 1
        if not context.patience or context.metric not in figures:
            return {}
        if figures[context.metric] > self.best_value:
            self.best_value, self.best_epoch = figures[context.metric], epoch
        schedule = self.fits[0].state.schedule
        warmup_epochs = math.ceil(schedule.lr_warmup_steps * context.max_epochs / schedule.n_steps)
        waited = epoch - max(self.best_epoch, warmup_epochs)
        if waited < context.patience or epoch >= context.max_epochs:
            return {}
        return {
            STOPPED_BY: f"patience: {context.metric} has not risen since epoch {self.best_epoch}",
            COMPLETE: True,
            "done": True,
        }

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Writes every fold's fine-tune, in a folder for each if there are several."""
        folder = Path(checkpoint_dir)
        for index, fit in enumerate(self.fits):
            place = self.context.locate_fold(folder, index)
            place.mkdir(exist_ok=True)
            fit.save(place)
        (folder / RECIPE_FILE).write_text(json.dumps(self.recipe.to_flat(), indent=1))
        if self.context.patience:
            (folder / PATIENCE_FILE).write_text(json.dumps({"value": self.best_value, "epoch": self.best_epoch}))
        seal_checkpoint(folder)

    def load_checkpoint(self, checkpoint_dir: str) -> None:  # type: ignore[override]  # never a dict here
        """Resumes from what :meth:`save_checkpoint` wrote."""
        for index, fit in enumerate(self.fits):
            fit.load(self.context.locate_fold(Path(checkpoint_dir), index))
        if self.context.patience:
            best = json.loads((Path(checkpoint_dir) / PATIENCE_FILE).read_text())
            self.best_value, self.best_epoch = best["value"], best["epoch"]


def flatten_reports(reports: Sequence[EpochReport]) -> dict[str, float]:
    """Names an epoch's figures for logs: ``train_loss``, ``train_loss/<part>``, ``lr``, and those of its speed.

    If batches did not fit the GPU, also ``activation_checkpointing``, which is 1, and ``regions_per_pass``: how many
    regions went through at once. Losses and speeds are averaged over the folds; the memory is that of the largest.
    """
    figures = {
        "train_loss" if part == "total" else f"train_loss/{part}": float(
            np.mean([report.losses[part] for report in reports])
        )
        for part in reports[0].losses
    }
    figures["lr"] = reports[0].lr
    for name in ("images_per_s", "data_wait_fraction"):
        figures[name] = float(np.mean([getattr(report, name) for report in reports]))
    figures["peak_memory_mb"] = max(report.peak_memory_mb for report in reports)
    if any(report.is_checkpointing for report in reports):
        figures["activation_checkpointing"] = 1.0
    if parts := [report.regions_per_pass for report in reports if report.regions_per_pass]:
        figures["regions_per_pass"] = float(min(parts))
    return figures

"""One fine-tune on one fold, in plain PyTorch: built, trained epoch by epoch, scored, saved and loaded."""

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
from torch import Tensor

from trainables.adapters.adapted_model import (
    AdaptedModel,
    attach_adapters,
    count_parameters,
    get_base,
    load_adapter_weights,
    save_adapters,
)
from trainables.adapters.scaled_update import can_scale, scale_update
from trainables.context import ADAPTER_FOLDER, RECIPE_FILE, STATE_FILE, TrialContext
from trainables.data.splits import Fold
from trainables.data.store import RegionStore
from trainables.evaluation.evaluation_set import EvaluationSet, RegionPlan, TilePlan
from trainables.evaluation.evaluator import OnLogits, evaluate
from trainables.model.build import MODELS, build_architecture
from trainables.model.class_prompts import (
    attach_class_prompts,
    find_class_prompts,
    load_class_prompts,
    save_class_prompts,
    start_class_prompts,
)
from trainables.model.frozen_prefix import find_prefix
from trainables.model.fusion import add_fusion
from trainables.protocol.background import BACKGROUND_ID, split_classes
from trainables.protocol.scores import Scores
from trainables.protocol.spec import find_valid
from trainables.recipe import Recipe
from trainables.training.averages import WeightAverage
from trainables.training.batches import TrainingRegions
from trainables.training.engine import EpochReport, train_epoch
from trainables.training.loader import BatchLoader
from trainables.training.losses import compute_validation_loss, weigh_classes
from trainables.training.optim import build_optimizer
from trainables.training.regularisers import start_regularisers
from trainables.training.schedule import build_schedule
from trainables.training.state import TrainingState


class FineTune:
    """A model that learns from a fold's training regions; the context's seed is that of all that is random.

    Attributes:
        state: The model, its optimizer, and what else training reads and changes.
        n_trained: How many parameters are trained.
    """

    def __init__(
        self,
        context: TrialContext,
        fold: Fold,
        base_state: Mapping[str, Tensor],
        recipe: Recipe,
        device: torch.device,
        loader: BatchLoader | None = None,
    ) -> None:
        """Builds the adapted model and its optimizer from the bare model's weights, which are not changed.

        Fine-tunes of several folds share a loader; one that is alone has its own.
        """
        self.context, self.fold = context, fold
        self.store = RegionStore(context.store_folder)
        self.loader = loader or make_loader(context, recipe, device)
        adapted = self._build_model(base_state, recipe, device)
        n_steps = self.loader.count_batches(fold.train) * context.max_epochs
        class_weights = weigh_classes(self.store, fold.train, recipe.loss.class_weight_strength)
        self.state = TrainingState(
            recipe,
            device,
            adapted,
            build_optimizer(adapted, recipe.optim),
            build_schedule(recipe.optim, n_steps, context.max_epochs),
            start_regularisers(adapted, recipe.regularise, context.seed),
            class_weights.to(device),
            average=WeightAverage(adapted, recipe.optim.ema_decay) if recipe.optim.ema_decay else None,
            prefix=find_prefix(get_base(adapted), self.store.folder, device),
        )
        self.n_trained = count_parameters(adapted)[0]

    def _build_model(self, base_state: Mapping[str, Tensor], recipe: Recipe, device: torch.device) -> AdaptedModel:
        """Builds a fresh model each time: what PEFT's unload leaves behind depends on the kind of adapter."""
        context = self.context
        bare = build_architecture(MODELS[context.model])
        bare.load_state_dict(base_state)
        adapted = attach_adapters(bare, recipe.adapter, context.seed).to(device)
        base = get_base(adapted)
        add_fusion(base, recipe.fusion, context.pathology_weights, context.seed)
        if n_tokens := recipe.class_prompts.tokens:
            attach_class_prompts(base, start_class_prompts(base, len(self.store.classes), n_tokens, context.seed))
        return adapted

    def train_epoch(self, epoch: int) -> EpochReport:
        """Trains one epoch, counted from 0; its random numbers depend on seed and epoch alone."""
        context, state = self.context, self.state
        # Dropout draws from the global generator: seeded by epoch, a resumed trial gives the same numbers.
        torch.manual_seed(context.seed * 1_000_003 + epoch)
        return train_epoch(state, self.loader.load(epoch, self.fold.train))

    def evaluate(
        self, regions: EvaluationSet, averaged: bool = True, scale: float = 1.0, on_logits: OnLogits | None = None
    ) -> Scores:
        """Scores the model on regions at a scale of its update: the average of its weights, if it has one, or not."""
        state, average = self.state, self._use_average() if averaged else nullcontext()
        with average, scale_update(state.adapted, scale):
            return evaluate(get_base(state.adapted), regions, state.device, on_logits, state.prefix)

    def list_scales(self) -> tuple[float, ...]:
        """Returns those of the context's scales at which the model can be scored: 1 alone, unless its update scales."""
        return self.context.scales if can_scale(self.state.adapted) else (1.0,)

    def validate(self, regions: EvaluationSet, scale: float = 1.0) -> tuple[Scores, float]:
        """Returns the scores at a scale of the update, and the mean loss of their pairs from the masks before any cut.

        The targets are the whole classes, every fourth pixel each way: the resolution of the model's own masks.
        """
        losses: list[Tensor] = []

        def add_losses(plan: RegionPlan, part: TilePlan, logits: Tensor) -> None:
            targets, valid = self._list_targets(regions, plan, part)
            losses.append(compute_validation_loss(logits.cpu(), targets, valid))

        scores = self.evaluate(regions, scale=scale, on_logits=add_losses)
        return scores, float(torch.cat(losses).mean())

    def _list_targets(self, regions: EvaluationSet, plan: RegionPlan, part: TilePlan) -> tuple[Tensor, Tensor]:
        """Returns the planned classes of a tile, and which pixels count, as 0 and 1."""
        mask, ids = self.store.mask_resized(plan.index, part.tile.window)[2::4, 2::4], list(self.store.classes)
        valid = find_valid(mask, self.store.ignore_ids)
        shown = [plan.pairs[pair].class_id for pair in part.pairs]
        order = [len(ids) if class_id == BACKGROUND_ID else ids.index(class_id) for class_id in shown]
        targets = torch.from_numpy(split_classes(mask, ids, valid)[order]).float()
        return targets, torch.ones(mask.shape) if valid is None else torch.from_numpy(valid).float()

    def take_reused(self) -> float:
        """Returns the share of encoder blocks that were read rather than computed since the last call, in [0, 1]."""
        return self.state.prefix.take_share() if self.state.prefix else 0.0

    def _use_average(self) -> AbstractContextManager[None]:
        return nullcontext() if self.state.average is None else self.state.average.put_in_place()

    def save(self, folder: Path) -> None:
        """Writes the adapter as PEFT does, class prompts if any, the recipe, and what training needs to resume.

        With an average, it is what is written; the weights that training goes on with are in the state file.
        """
        state = self.state
        with self._use_average():
            save_adapters(state.adapted, folder / ADAPTER_FOLDER)
            if (prompts := find_class_prompts(get_base(state.adapted))) is not None:
                save_class_prompts(prompts, folder)
        (folder / RECIPE_FILE).write_text(json.dumps(state.recipe.to_flat(), indent=1))
        saved = {"optimizer": state.optimizer.state_dict(), "optimizer_steps": state.step}
        if state.average is not None:
            saved["live_weights"] = state.average.copy_live()
        torch.save(saved, folder / STATE_FILE)

    def load(self, folder: Path) -> None:
        """Resumes from what :meth:`save` wrote."""
        load_adapter_weights(self.state.adapted, folder / ADAPTER_FOLDER)
        if (prompts := find_class_prompts(get_base(self.state.adapted))) is not None:
            prompts.load_state_dict(load_class_prompts(folder).state_dict())
        # On the CPU: moments go to their parameters' device, and counts of steps stay, as in an optimizer that is new.
        saved = torch.load(folder / STATE_FILE, map_location="cpu", weights_only=True)
        self.state.optimizer.load_state_dict(saved["optimizer"])
        self.state.step = saved["optimizer_steps"]
        if self.state.average is not None:
            self.state.average.take_live()
            self.state.average.load_live(saved["live_weights"])


def make_loader(context: TrialContext, recipe: Recipe, device: torch.device) -> BatchLoader:
    """Makes the loader of a trial."""
    regions = TrainingRegions(RegionStore(context.store_folder), context.protocol, recipe, context.seed)
    return BatchLoader(regions, context.n_workers, pin_memory=device.type == "cuda")

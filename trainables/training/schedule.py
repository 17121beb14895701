"""The learning rate of a fine-tune: a linear warm-up, then the recipe's schedule. Does not import PyTorch."""

import math
from dataclasses import dataclass

from trainables.recipe import OptimRecipe


@dataclass(frozen=True)
class Schedule:
    """The learning rate of a whole fine-tune: to ``peak`` by a linear warm-up, then down to ``end`` in the last step.

    ``cosine`` falls from the warm-up on. ``wsd`` (warm-up, stable, decay; Hu et al. 2024, arXiv 2404.06395) stays at
    the peak, and falls over the last ``lr_decay_steps`` by 1 - sqrt(progress), the best of the shapes that Haegele et
    al. 2024 compare (arXiv 2405.18392). ``constant`` stays at the peak. If there are no more steps than those of the
    warm-up, the peak is not reached.
    """

    peak: float
    end: float
    lr_warmup_steps: int
    n_steps: int
    kind: str = "cosine"
    lr_decay_steps: int = 0

    def compute_lr(self, step: int) -> float:
        """Returns the learning rate of one step, counted from 0."""
        if step < self.lr_warmup_steps:
            return self.peak * (step + 1) / self.lr_warmup_steps
        if self.kind == "constant":
            return self.peak
        start = self.lr_warmup_steps
        if self.kind == "wsd":
            start = max(start, self.n_steps - 1 - self.lr_decay_steps)
        progress = min(1.0, max(0.0, (step - start) / max(1, self.n_steps - 1 - start)))
        if self.kind == "wsd":
            return self.end + (self.peak - self.end) * (1 - math.sqrt(progress))
        return self.end + (self.peak - self.end) * 0.5 * (1 + math.cos(math.pi * progress))


def build_schedule(recipe: OptimRecipe, n_steps: int, n_epochs: int) -> Schedule:
    """Returns the learning rate's schedule over all steps; each epoch has equally many.

    The recipe says how long to warm up in steps, in epochs, or as a share of all steps.
    """
    if recipe.warmup_steps:
        warmup: float = recipe.warmup_steps
    elif recipe.warmup_epochs:
        warmup = recipe.warmup_epochs * n_steps / n_epochs
    else:
        warmup = recipe.warmup_fraction * n_steps
    # Rounded first: 0.07 * 100 is a little more than 7, and no eighth step is meant.
    lr_warmup_steps, lr_decay_steps = (
        math.ceil(round(steps, 6)) for steps in (warmup, recipe.decay_fraction * n_steps)
    )
    end = recipe.lr * recipe.lr_end_fraction
    return Schedule(recipe.lr, end, lr_warmup_steps, n_steps, recipe.schedule, lr_decay_steps)

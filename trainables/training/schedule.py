"""The learning rate of a fine-tune: a linear warm-up, then a cosine. Does not import PyTorch."""

import math
from dataclasses import dataclass

from trainables.recipe import OptimRecipe


@dataclass(frozen=True)
class Schedule:
    """The learning rate of a whole fine-tune: to ``peak`` by a linear warm-up, then down to ``end`` in the last step.

    If there are no more steps than those of the warm-up, the peak is not reached.
    """

    peak: float
    end: float
    lr_warmup_steps: int
    n_steps: int

    def compute_lr(self, step: int) -> float:
        """Returns the learning rate of one step, counted from 0."""
        if step < self.lr_warmup_steps:
            return self.peak * (step + 1) / self.lr_warmup_steps
        rest = max(1, self.n_steps - 1 - self.lr_warmup_steps)
        progress = min(1.0, (step - self.lr_warmup_steps) / rest)
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
    lr_warmup_steps = math.ceil(round(warmup, 6))
    return Schedule(recipe.lr, recipe.lr * recipe.lr_end_fraction, lr_warmup_steps, n_steps)

"""The parts of one fine-tune that its training reads and changes."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from trainables.adapters.adapted_model import AdaptedModel, get_base
from trainables.model.checkpointed_blocks import checkpoint_blocks
from trainables.model.frozen_prefix import FrozenPrefix
from trainables.recipe import Recipe
from trainables.training.averages import WeightAverage
from trainables.training.micro_batches import MicroBatches
from trainables.training.regularisers import Regularisers
from trainables.training.schedule import Schedule


@dataclass
class TrainingState:
    """One fine-tune while it trains.

    Attributes:
        adapted: The model with all that the recipe trains.
        optimizer: Over the trained parameters.
        class_weights: Weight of each class's objects in the loss, on the device.
        micro_batches: Saves memory where batches do not fit; remembers how far.
        average: Of the trained weights over the steps; None where the recipe has none.
        prefix: The image encoder's frozen blocks, if there are any that are worth reading.
        step: Optimizer steps taken so far, which is the number of the next one, counted from 0.
    """

    recipe: Recipe
    device: torch.device
    adapted: AdaptedModel
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    regularisers: Regularisers
    class_weights: Float[Tensor, " classes"]
    micro_batches: MicroBatches = field(init=False)
    average: WeightAverage | None = None
    prefix: FrozenPrefix | None = None
    step: int = 0

    def __post_init__(self) -> None:
        """Nothing is saved at first."""
        adapted = self.adapted  # not self: a state that nobody holds must free its model at once
        self.micro_batches = MicroBatches(lambda: checkpoint_blocks(get_base(adapted)))

"""An exponential moving average of the trained weights (Polyak and Juditsky 1992)."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightAverage:
    """Everything that requires a gradient, averaged over the optimizer steps; begins at the weights as they are.

    Adapters are averaged factor by factor, which is not quite the average of their updates. Buffers are not averaged.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        """Copies the trained weights, on their device; the decay, in [0, 1), is that of late steps."""
        self.decay = decay
        self._live = {name: value for name, value in model.named_parameters() if value.requires_grad}
        self._mean = self.copy_live()

    def update(self, step: int) -> None:
        """Takes in the weights after an optimizer step, counted from 0.

        A fine-tune has few steps: the decay grows as (1 + step) / (10 + step) up to its value, so that the average soon
        forgets where it began (as in TensorFlow's ``ExponentialMovingAverage`` with ``num_updates``).
        """
        decay = min(self.decay, (1 + step) / (10 + step))
        with torch.no_grad():
            torch._foreach_lerp_(list(self._mean.values()), list(self._live.values()), 1 - decay)

    @contextmanager
    def put_in_place(self) -> Iterator[None]:
        """Makes the model the averaged one inside the block; then its weights are back, bit for bit."""
        live = self.copy_live()
        self.load_live(self._mean)
        try:
            yield
        finally:
            self.load_live(live)

    def take_live(self) -> None:
        """Makes the average what the weights are now."""
        self._mean = self.copy_live()

    def copy_live(self) -> dict[str, Tensor]:
        """Returns a copy of the weights that are trained, without the average, by their names in the model."""
        return {name: value.detach().clone() for name, value in self._live.items()}

    def load_live(self, values: Mapping[str, Tensor]) -> None:
        """Sets the weights to what :meth:`copy_live` returned."""
        with torch.no_grad():
            for name, value in self._live.items():
                value.copy_(values[name])

"""Frozen copies of weights that a fine-tune changes in place, by which zero-shot can be restored."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn


class OriginalWeights(nn.Module):
    """Copies of a model's weights, made before any module is wrapped.

    The modules that hold the weights stay the same objects under PEFT's wrappers and this project's own.
    """

    def __init__(self, model: nn.Module, parts: Sequence[str]) -> None:
        """Copies every parameter of the named modules, buffers excepted (SAM2 changes none by training)."""
        super().__init__()
        self.slots = {
            f"{place}.{name}": (module, name)
            for part in parts
            for place, module in model.get_submodule(part).named_modules(prefix=part)
            for name in module._parameters
            if module._parameters[name] is not None
        }
        # Parameters, though frozen, and not buffers: they move along and count as part of the model.
        self.copies = nn.ParameterList(
            nn.Parameter(value.detach().clone(), requires_grad=False) for value in self.current().values()
        )

    def current(self) -> dict[str, nn.Parameter]:
        """Returns the weights that the model has now, by their stock names."""
        return {full_name: module.get_parameter(name) for full_name, (module, name) in self.slots.items()}

    @contextmanager
    def put_back(self, scale: float = 0.0) -> Iterator[None]:
        """Gives the model its original weights inside the block, or those at a scale from them (0) to its own (1).

        Parameters are exchanged, not their values: the optimizer keeps its own, a backward pass may span the block,
        and autocast, which caches by parameter, cannot mix them up.
        """
        changed = self.current()
        if changed:
            self.to(next(iter(changed.values())).device)  # the model inside may have been moved alone
        given: list[nn.Parameter] = list(self.copies)
        if scale:
            pairs = zip(self.copies, changed.values(), strict=True)
            given = [nn.Parameter(torch.lerp(old, new.detach(), scale), requires_grad=False) for old, new in pairs]
        try:
            for (module, name), value in zip(self.slots.values(), given, strict=True):
                module._parameters[name] = value
            yield
        finally:
            for (module, name), value in zip(self.slots.values(), changed.values(), strict=True):
                module._parameters[name] = value

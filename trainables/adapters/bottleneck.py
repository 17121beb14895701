"""Bottleneck adapters (Medical SAM Adapter, Wu et al. 2023, arXiv 2304.12620), beside attentions and MLPs.

Unlike a low-rank update they hold a nonlinearity, so that no weight of the stock model can take them up: they
cannot be merged.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from jaxtyping import Float
from sam2.modeling.sam2_base import SAM2Base
from torch import Tensor, nn

MLP_SCALE = 0.5  # as published: the branch beside an MLP counts half


class Bottleneck(nn.Module):
    """``up(gelu(down(dropout(x))))``, pointwise; ``up`` starts at zero, and so does the output."""

    def __init__(self, n_channels: int, width: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.down = nn.Linear(n_channels, width)
        self.activation = nn.GELU()
        self.up = nn.Linear(width, n_channels)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x: Float[Tensor, "... channels"]) -> Float[Tensor, "... channels"]:
        """Returns what is to be added to the stream."""
        return self.up(self.activation(self.down(self.dropout(x))))  # type: ignore[no-any-return]


class AttentionWithBottleneck(nn.Module):
    """An attention followed by an adapter with a skip: ``y + adapter(y)``, where ``y = attention(...)``."""

    def __init__(self, wrapped: nn.Module, adapter: Bottleneck) -> None:
        super().__init__()
        self.wrapped = wrapped
        self.adapter = adapter
        self.enabled = True

    def forward(self, *args: Any, **kwargs: Any) -> Float[Tensor, "... channels"]:
        """Takes what the attention takes: one map in Hiera; q, k and v in the mask decoder."""
        out: Tensor = self.wrapped(*args, **kwargs)
        return out + self.adapter(out) if self.enabled else out


class MLPWithBottleneck(nn.Module):
    """An MLP with an adapter parallel to it: ``mlp(x) + 0.5 * adapter(x)``."""

    def __init__(self, wrapped: nn.Module, adapter: Bottleneck) -> None:
        super().__init__()
        self.wrapped = wrapped
        self.adapter = adapter
        self.enabled = True

    def forward(self, x: Float[Tensor, "... channels"]) -> Float[Tensor, "... channels"]:
        """Takes what the MLP takes."""
        out: Tensor = self.wrapped(x)
        return out + MLP_SCALE * self.adapter(x) if self.enabled else out


def attach_bottlenecks(model: SAM2Base, sites: Sequence[str], width: int, dropout: float) -> None:
    """Wraps attentions and MLPs in place; the first weights are drawn from PyTorch's global generator.

    Args:
        model: The bare model.
        sites: From :func:`trainables.adapters.placement.list_bottleneck_sites`.
        width: Channels between the projections.
        dropout: In front of the down-projection.
    """
    for site in sites:
        parent_name, name = site.rsplit(".", 1)
        parent, module = model.get_submodule(parent_name), model.get_submodule(site)
        adapter = Bottleneck(_count_output_channels(module), width, dropout)
        wrapper = MLPWithBottleneck if name == "mlp" else AttentionWithBottleneck
        setattr(parent, name, wrapper(module, adapter))


def list_bottleneck_weights(model: SAM2Base) -> dict[str, nn.Parameter]:
    """Returns the adapters' weights by their names in the wrapped model; empty where there are none."""
    return {
        f"{site}.adapter.{name}": value
        for site, module in model.named_modules()
        if isinstance(module, (AttentionWithBottleneck, MLPWithBottleneck))
        for name, value in module.adapter.named_parameters()
    }


@contextmanager
def bottlenecks_off(model: SAM2Base) -> Iterator[None]:
    """While this lasts the wrapped modules compute what they did before."""
    wrappers = [
        module for module in model.modules() if isinstance(module, (AttentionWithBottleneck, MLPWithBottleneck))
    ]
    before = [wrapper.enabled for wrapper in wrappers]
    for wrapper in wrappers:
        wrapper.enabled = False
    try:
        yield
    finally:
        for wrapper, enabled in zip(wrappers, before, strict=True):
            wrapper.enabled = enabled


def _count_output_channels(module: nn.Module) -> int:
    """Every attention and MLP of SAM2 ends in a Linear layer, registered last."""
    linears = [layer for layer in module.modules() if isinstance(layer, nn.Linear)]
    return linears[-1].out_features

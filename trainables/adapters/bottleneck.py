"""Bottleneck adapters (Medical SAM Adapter, Wu et al. 2023, arXiv 2304.12620), beside attentions and MLPs.

They are nonlinear, unlike a low-rank update, and so cannot be merged into weights of the stock model.
"""

from collections.abc import Sequence
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


class WithBottleneck(nn.Module):
    """An attention or an MLP with an adapter.

    Behind an attention with a skip, ``y + adapter(y)`` for ``y = attention(...)``; parallel to an MLP,
    ``mlp(x) + 0.5 * adapter(x)``.
    """

    def __init__(self, wrapped: nn.Module, adapter: Bottleneck, is_parallel: bool) -> None:
        super().__init__()
        self.wrapped, self.adapter, self.is_parallel = wrapped, adapter, is_parallel
        self.enabled = True

    def forward(self, *args: Any, **kwargs: Any) -> Float[Tensor, "... channels"]:
        """Takes what the wrapped module takes: one map; q, k and v for attentions of the mask decoder."""
        out: Tensor = self.wrapped(*args, **kwargs)
        if not self.enabled:
            return out
        update: Tensor = MLP_SCALE * self.adapter(args[0]) if self.is_parallel else self.adapter(out)
        return out + update


def attach_bottlenecks(model: SAM2Base, sites: Sequence[str], width: int, dropout: float) -> None:
    """Wraps attentions and MLPs in place, at ``list_bottleneck_sites``, with so many channels between the projections.

    Dropout stands in front of the down-projection. The first weights are drawn from PyTorch's global generator.
    """
    for site in sites:
        parent_name, name = site.rsplit(".", 1)
        parent, module = model.get_submodule(parent_name), model.get_submodule(site)
        linears = [layer for layer in module.modules() if isinstance(layer, nn.Linear)]
        adapter = Bottleneck(linears[-1].out_features, width, dropout)  # all of SAM2's end in one, registered last
        setattr(parent, name, WithBottleneck(module, adapter, is_parallel=name == "mlp"))


def list_bottleneck_weights(model: SAM2Base) -> dict[str, nn.Parameter]:
    """Returns the adapters' weights by their names in the wrapped model; empty where there are none."""
    return {
        f"{site}.adapter.{name}": value
        for site, module in model.named_modules()
        if isinstance(module, WithBottleneck)
        for name, value in module.adapter.named_parameters()
    }

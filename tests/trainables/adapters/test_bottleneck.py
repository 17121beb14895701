import pytest
import torch
from sam2.modeling.sam2_base import SAM2Base
from torch import Tensor, nn

from trainables.adapters.bottleneck import (
    MLP_SCALE,
    Bottleneck,
    WithBottleneck,
    attach_bottlenecks,
    list_bottleneck_weights,
)
from trainables.model.build import MODELS, build_architecture

SITES = ("image_encoder.trunk.blocks.3.attn", "sam_mask_decoder.transformer.layers.0.mlp")


class AddOne(nn.Module):
    """Stands where an attention or MLP would: its output is known."""

    def forward(self, x: Tensor) -> Tensor:
        return x + 1


@pytest.fixture
def identity() -> Bottleneck:
    """On inputs far above zero, where GELU is the identity, this adapter returns its input."""
    adapter = Bottleneck(3, 3, dropout=0.0)
    with torch.no_grad():
        for layer in (adapter.down, adapter.up):
            layer.weight.copy_(torch.eye(3))
            layer.bias.zero_()
    return adapter


@pytest.fixture
def wrapped() -> SAM2Base:
    model = build_architecture(MODELS["nano"])
    attach_bottlenecks(model, SITES, width=2, dropout=0.0)
    return model


def test_a_new_bottleneck_gives_zero_and_its_second_factor_learns() -> None:
    adapter = Bottleneck(6, 2, dropout=0.0)
    out = adapter(torch.ones(4, 5, 6))
    assert out.shape == (4, 5, 6) and not out.any()
    out.sum().backward()
    assert adapter.up.weight.grad is not None and adapter.up.weight.grad.any()


def test_after_an_attention_it_takes_the_output_beside_an_mlp_the_input(identity: Bottleneck) -> None:
    x = torch.full((2, 3), 50.0)
    assert WithBottleneck(AddOne(), identity, is_parallel=False)(x).tolist() == [[102.0] * 3] * 2  # 51 + 51
    assert WithBottleneck(AddOne(), identity, is_parallel=True)(x).tolist() == [[51 + MLP_SCALE * 50] * 3] * 2


def test_dropout_works_in_training_only() -> None:
    adapter = Bottleneck(4, 64, dropout=0.5)
    nn.init.ones_(adapter.up.weight)
    x = torch.ones(8, 4)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        assert not torch.equal(adapter.train()(x), adapter(x))
    assert torch.equal(adapter.eval()(x), adapter(x))


def test_sites_are_wrapped_by_their_kind_and_width(wrapped: SAM2Base) -> None:
    assert list_bottleneck_weights(build_architecture(MODELS["nano"])) == {}
    attention, mlp = (wrapped.get_submodule(site) for site in SITES)
    assert isinstance(attention, WithBottleneck) and isinstance(mlp, WithBottleneck)
    assert (attention.is_parallel, mlp.is_parallel) == (False, True)
    assert (attention.adapter.down.in_features, mlp.adapter.down.in_features) == (128, 64)
    weights = list_bottleneck_weights(wrapped)
    assert set(weights) == {
        f"{site}.adapter.{layer}.{kind}" for site in SITES for layer in ("down", "up") for kind in ("weight", "bias")
    }
    own = dict(wrapped.named_parameters())
    assert all(own[name] is value for name, value in weights.items())

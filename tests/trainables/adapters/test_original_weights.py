import pytest
import torch
from torch import nn

from trainables.adapters.original_weights import OriginalWeights


@pytest.fixture
def model() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 3, bias=False), nn.LayerNorm(3)))


def test_names_are_the_model_s_own_and_weights_the_very_same(model: nn.Sequential) -> None:
    own = dict(model.named_parameters())
    current = OriginalWeights(model, ["0", "1"]).current()
    assert list(current) == list(own) == ["0.weight", "0.bias", "1.0.weight", "1.1.weight", "1.1.bias"]
    assert all(current[name] is value for name, value in own.items())
    assert not list(OriginalWeights(model, []).parameters())


def test_put_back_exchanges_the_named_parts_and_no_other(model: nn.Sequential) -> None:
    originals = OriginalWeights(model, ["1"])
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    tuned = dict(model.named_parameters())
    with originals.put_back():
        inside = dict(model.named_parameters())
        assert all(torch.equal(inside[name], before[name]) for name in inside if name.startswith("1."))
        assert not any(inside[name].requires_grad for name in inside if name.startswith("1."))
        assert inside["0.weight"] is tuned["0.weight"]
    assert all(value is tuned[name] for name, value in model.named_parameters())


def test_after_an_error_tuned_weights_are_back_and_copies_follow_the_model(model: nn.Sequential) -> None:
    originals = OriginalWeights(model, ["0"])
    tuned = model[0].weight
    with pytest.raises(RuntimeError, match="halfway"), originals.put_back():
        raise RuntimeError("halfway")
    assert model[0].weight is tuned
    model.to("meta")
    with originals.put_back():
        assert model[0].weight.device.type == "meta"

import copy

import pytest
import torch
from torch import nn

from trainables.training.averages import WeightAverage


def test_the_average_of_what_is_trained_is_that_of_the_definition() -> None:
    model = nn.Linear(2, 1)
    model.bias.requires_grad_(False)
    with torch.no_grad():
        model.weight.fill_(1.0)
    average = WeightAverage(model, 0.5)
    expected = 1.0
    for step in range(12):
        with torch.no_grad():
            model.weight.fill_(2.0 + step)
        average.update(step)
        decay = min(0.5, (1 + step) / (10 + step))  # 0.1, 2/11, 3/12 ... and 1/2 from step 8 on
        expected = decay * expected + (1 - decay) * (2.0 + step)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(RuntimeError, match="broken"), average.put_in_place():
        assert model.weight.flatten().tolist() == pytest.approx([expected] * 2) and torch.equal(
            model.bias, before["bias"]
        )
        raise RuntimeError("broken")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert list(average.copy_live()) == ["weight"]

"""The mean of merged weights, and the low-rank adapter that is exactly it."""

import torch

from trainables.adapters.soup import WeightMean


def average(*states: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    mean = WeightMean()
    for state in states:
        mean = mean.add(state)
    return mean.to_state()


def test_the_mean_is_that_of_every_weight_and_of_the_updates() -> None:
    base = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    updates = [torch.randn(4, 3, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2, 3)]
    found = average(*({"w": base + update} for update in updates))["w"]
    torch.testing.assert_close(found, base + sum(updates) / 3)
    assert found.dtype == torch.float32


def test_what_all_members_share_stays_bit_for_bit() -> None:
    value = torch.randn(1000, generator=torch.Generator().manual_seed(0)) * 100
    assert torch.equal(average(*({"w": value} for _ in range(7)))["w"], value)


def test_adding_leaves_the_smaller_soup_as_it_is() -> None:
    one = WeightMean().add({"w": torch.zeros(2)})
    one.add({"w": torch.ones(2)})
    assert one.n_members == 1 and torch.equal(one.to_state()["w"], torch.zeros(2))

"""Every shipped space loads, becomes Optuna's distributions, and makes recipes."""

import dataclasses

import optuna
import pytest

from search.space.config import find_space, list_spaces, load_config
from search.study.distributions import to_distributions
from trainables.protocol.fields import change_protocol
from trainables.protocol.spec import PROTOCOLS
from trainables.recipe import Recipe


@pytest.mark.parametrize("name", list_spaces())
def test_space_draws_what_trials_can_run(name: str) -> None:
    config = load_config(find_space(name))
    assert config.description
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    distributions = to_distributions(config.space)
    for _ in range(20):
        params = study.ask(distributions).params
        if not config.train:
            change_protocol(PROTOCOLS[config.protocol], {**config.fixed, **params})
            continue
        recipe = Recipe.from_flat({**config.fixed, **params}).to_flat()
        assert {key: recipe[key] for key in params} == params


@pytest.mark.parametrize("name", list_spaces())
def test_starting_points_differ(name: str) -> None:
    config = load_config(find_space(name))
    started = [{**config.fixed, **point.values} for point in config.start_from]
    if config.train:
        found = {dataclasses.astuple(Recipe.from_flat(values)) for values in started}
        assert len(found) == len(started)
    else:
        ids = {change_protocol(PROTOCOLS[config.protocol], values).id for values in started}
        assert len(ids) == len(started)


def test_lora_is_shipped_and_starts_from_whole_points_that_search_everything() -> None:
    config = load_config(find_space("lora"))
    assert [point.name for point in config.start_from] == ["dice-led"]
    # It only flips, so that the strength of other augmentation does not apply.
    assert all(set(point.values) == set(config.space) - {"augment.strength"} for point in config.start_from)
    assert "lora.yaml" in list_spaces()

"""Every shipped space loads, becomes Optuna's distributions, and makes recipes."""

from __future__ import annotations

import dataclasses

import optuna
import pytest

from search.config import find_space, list_spaces, load_config
from search.space import to_distributions
from trainables.protocol import PROTOCOLS
from trainables.recipe import Recipe

SHIPPED = list_spaces()


def test_there_are_shipped_spaces() -> None:
    assert "lora.yaml" in SHIPPED


@pytest.mark.parametrize("name", SHIPPED)
def test_space_draws_recipes(name: str) -> None:
    config = load_config(find_space(name), PROTOCOLS)
    assert config.description
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    distributions = to_distributions(config.space)
    for _ in range(20):
        params = study.ask(distributions).params
        recipe = Recipe.from_flat({**config.fixed, **params}).to_flat()
        assert {key: recipe[key] for key in params} == params


@pytest.mark.parametrize("name", SHIPPED)
def test_starting_points_are_recipes_that_differ(name: str) -> None:
    config = load_config(find_space(name), PROTOCOLS)
    recipes = [Recipe.from_flat({**config.fixed, **point.values}) for point in config.start_from]
    assert len({dataclasses.astuple(recipe) for recipe in recipes}) == len(recipes)


def test_lora_starts_from_whole_points_that_search_everything() -> None:
    config = load_config(find_space("lora"), PROTOCOLS)
    assert [point.name for point in config.start_from] == ["plain-lora", "dice-led"]
    assert all(set(point.values) == set(config.space) for point in config.start_from)

"""Every shipped space loads, becomes Optuna's distributions, and makes recipes."""

from __future__ import annotations

import dataclasses

import optuna
import pytest

from search.config import find_space, list_spaces, load_config
from search.recorded_spaces import list_recorded
from search.space import to_distributions
from trainables.protocol import PROTOCOLS
from trainables.protocol_fields import change_protocol
from trainables.recipe import Recipe

# Fields that a recorded experiment needs and no recipe has yet, by file: nothing else may keep a space from loading.
NOT_YET = {f"recorded/{one.name}.yaml": one.missing for one in list_recorded() if one.missing}
SHIPPED = [
    pytest.param(name, marks=pytest.mark.skip(reason=f"needs {', '.join(NOT_YET[name])}")) if name in NOT_YET else name
    for name in list_spaces()
]


def test_there_are_shipped_spaces() -> None:
    assert "lora.yaml" in list_spaces()


def test_only_the_fusion_waits_for_its_fields() -> None:
    assert NOT_YET in ({}, {"recorded/path-sam2.yaml": ("fusion.kind", "fusion.encoder")})


@pytest.mark.parametrize("name", SHIPPED)
def test_space_draws_what_trials_can_run(name: str) -> None:
    config = load_config(find_space(name), PROTOCOLS)
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


@pytest.mark.parametrize("name", SHIPPED)
def test_starting_points_differ(name: str) -> None:
    config = load_config(find_space(name), PROTOCOLS)
    started = [{**config.fixed, **point.values} for point in config.start_from]
    if config.train:
        found = {dataclasses.astuple(Recipe.from_flat(values)) for values in started}
        assert len(found) == len(started)
    else:
        ids = {change_protocol(PROTOCOLS[config.protocol], values).id for values in started}
        assert len(ids) == len(started)


def test_lora_starts_from_whole_points_that_search_everything() -> None:
    config = load_config(find_space("lora"), PROTOCOLS)
    assert [point.name for point in config.start_from] == ["plain-lora", "dice-led"]
    assert all(set(point.values) == set(config.space) for point in config.start_from)

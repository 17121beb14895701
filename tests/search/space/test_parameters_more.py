"""Optuna draws exactly what a space contains, both ends included."""

from __future__ import annotations

import optuna
import pytest

from search.space.parameters import Choice, FloatRange, IntRange, Parameter, contains
from search.study.distributions import to_distributions

SPACE: dict[str, Parameter] = {
    "choice": Choice((4, 8, 16)),
    "switch": Choice((True, False)),
    "plain": IntRange(1, 4),
    "stepped": IntRange(2, 8, step=2),
    "log": IntRange(1, 3, log=True),
    "grid": FloatRange(0.0, 0.3, step=0.1),
    "real": FloatRange(-1.0, 1.0),
    "log_real": FloatRange(1e-5, 1e-1, log=True),
}


@pytest.fixture(scope="module")
def draws() -> list[dict[str, object]]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    distributions = to_distributions(SPACE)
    return [study.ask(distributions).params for _ in range(300)]


@pytest.mark.parametrize("name", list(SPACE))
def test_every_draw_is_contained(draws: list[dict[str, object]], name: str) -> None:
    assert all(contains(SPACE[name], draw[name]) for draw in draws)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("choice", {4, 8, 16}),
        ("switch", {True, False}),
        ("plain", {1, 2, 3, 4}),
        ("stepped", {2, 4, 6, 8}),
        ("log", {1, 2, 3}),
    ],
)
def test_every_value_is_drawn_both_ends_included(
    draws: list[dict[str, object]], name: str, values: set[object]
) -> None:
    assert {draw[name] for draw in draws} == values
    assert {type(draw[name]) for draw in draws} == {type(value) for value in values}


def test_both_ends_of_a_float_grid_are_drawn(draws: list[dict[str, object]]) -> None:
    assert {round(float(str(draw["grid"])), 6) for draw in draws} == {0.0, 0.1, 0.2, 0.3}


@pytest.mark.parametrize(
    ("name", "value", "inside"),
    [
        ("plain", 1, True),
        ("plain", 4, True),
        ("plain", 0, False),
        ("plain", 5, False),
        ("plain", 2.0, False),
        ("plain", True, False),
        ("stepped", 3, False),
        ("stepped", 8, True),
        ("grid", 0.3, True),
        ("grid", 0.1 + 0.2, False),
        ("grid", 0.2, True),
        ("grid", 0.15, False),
        ("real", 1, True),
        ("real", -1.0, True),
        ("real", 1.0000001, False),
        ("real", float("nan"), False),
        ("real", "0.5", False),
        ("log_real", 1e-5, True),
        ("log_real", 0.0, False),
        ("choice", 8, True),
        ("choice", 5, False),
        ("choice", "8", False),
        ("switch", True, True),
        ("switch", 1, False),
    ],
)
def test_containment_at_the_boundaries(name: str, value: object, inside: bool) -> None:
    assert contains(SPACE[name], value) is inside


def test_optuna_keeps_a_contained_starting_point() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    point = {"choice": 16, "stepped": 8, "grid": 0.3, "log_real": 1e-1}
    study.enqueue_trial(point)
    params = study.ask(to_distributions(SPACE)).params
    assert {name: params[name] for name in point} == point

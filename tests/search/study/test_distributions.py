"""Optuna draws exactly what a space contains: both ends included, every parameter that applies, and no other."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
import pytest

from search.space.kinds import SamplerKind
from search.space.parameters import (
    Choice,
    Condition,
    FloatRange,
    IntRange,
    Parameter,
    contains,
    list_conditions,
    sort_parents_first,
)
from search.study.distributions import suggest_applying, to_distributions
from search.study.study_file import StudyFile

Space = Mapping[str, Parameter]


@pytest.fixture(scope="module")
def draws(every_kind: Space) -> list[dict[str, Any]]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    distributions = to_distributions(every_kind)
    return [study.ask(distributions).params for _ in range(300)]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("choice", {4, 8, 16}),
        ("switch", {True, False}),
        ("plain", {1, 2, 3, 4}),
        ("stepped", {2, 4, 6, 8}),
        ("log", {1, 2, 3}),
        ("grid", {0.0, 0.1, 0.2, 0.3}),
        ("real", None),
        ("log_real", None),
    ],
)
def test_every_draw_is_contained_and_every_value_drawn_both_ends_included(
    every_kind: Space, draws: list[dict[str, Any]], name: str, values: set[Any] | None
) -> None:
    drawn = {draw[name] for draw in draws}
    assert all(contains(every_kind[name], value) for value in drawn)
    if values is not None:
        assert {round(value, 6) if name == "grid" else value for value in drawn} == values
        assert {type(value) for value in drawn} == {type(value) for value in values}


def test_optuna_keeps_a_contained_starting_point(every_kind: Space) -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    point = {"choice": 16, "stepped": 8, "grid": 0.3, "log_real": 1e-1}
    study.enqueue_trial(point)
    params = study.ask(to_distributions(every_kind)).params
    assert {name: params[name] for name in point} == point


# Children stand before their parents, as they may in a file.
CONDITIONAL: dict[str, Parameter] = {
    "deep": Choice(("x", "y"), (Condition("strength", (1, 2)), Condition("switch", (True,)))),
    "strength": IntRange(1, 3, when=(Condition("kind", ("color", "all")),)),
    "grid": FloatRange(0.0, 0.2, step=0.1, when=(Condition("switch", (False,)), Condition("fixed", (7,)))),
    "kind": Choice(("flips", "color", "all")),
    "switch": Choice((True, False)),
    "real": FloatRange(0.1, 1.0, log=True),
}
N_DRAWS = 200


def list_expected(params: Mapping[str, object]) -> set[str]:
    """Says by hand what the conditions above mean."""
    strong = params["kind"] in ("color", "all")
    names = {"kind", "switch", "real"} | ({"strength"} if strong else set())
    if params["switch"] is False:
        return names | {"grid"}
    return names | ({"deep"} if strong and params["strength"] in (1, 2) else set())


def draw_conditional(study_file: StudyFile) -> list[dict[str, object]]:
    study = optuna.create_study()
    conditions = list_conditions(CONDITIONAL)
    all_distributions = to_distributions(CONDITIONAL)
    distributions = {name: all_distributions[name] for name in sort_parents_first(CONDITIONAL, conditions)}
    for number in range(N_DRAWS):
        study.sampler = study_file.make_sampler(number, conditional=True)
        trial = study.ask()
        suggest_applying(trial, distributions, conditions)
        study.tell(trial, float(str(trial.params["real"])))
    return [trial.params for trial in study.get_trials(deepcopy=False)]


@pytest.mark.parametrize(("kind", "seed"), [("random", 0), ("random", 1), ("tpe", 2)])
def test_a_draw_has_what_applies_and_nothing_else(kind: SamplerKind, seed: int) -> None:
    draws = draw_conditional(StudyFile(Path("unused"), "s", kind, seed, startup_trials=10))
    assert all(set(params) == list_expected(params) for params in draws)
    assert all(contains(CONDITIONAL[name], value) for params in draws for name, value in params.items())
    assert len({frozenset(params) for params in draws}) == 5


@pytest.mark.parametrize(("name", "values"), [("deep", {"x", "y"}), ("strength", {1, 2, 3}), ("grid", {0.0, 0.1, 0.2})])
def test_every_value_is_drawn_where_it_applies(name: str, values: set[object]) -> None:
    draws = draw_conditional(StudyFile(Path("unused"), "s", "random"))
    assert {params[name] for params in draws if name in params} == values


def test_groups_are_sampled_jointly_and_without_a_warning(recwarn: pytest.WarningsRecorder) -> None:
    sampler = StudyFile(Path("unused"), "s").make_sampler(3, conditional=True)
    study = optuna.create_study(sampler=sampler)
    conditional = {"kind": Choice((0, 1)), "a": FloatRange(0.0, 1.0, when=(Condition("kind", (1,)),))}
    distributions = to_distributions(conditional)
    for kind in (0, 1) * 10:
        study.enqueue_trial({"kind": kind})
        trial = study.ask()
        suggest_applying(trial, distributions, list_conditions(conditional))
        study.tell(trial, trial.params.get("a", 0.0))
    # Only by groups does a parameter that some trials lack belong to what is modelled.
    trial = study.ask()
    assert set(trial.relative_params) == {"kind", "a"}
    assert not [one for one in recwarn if issubclass(one.category, optuna.exceptions.ExperimentalWarning)]


def test_tpe_learns_inside_a_condition() -> None:
    """What is best lies in a branch: the mean of late proposals moves there, away from that of a random sampler."""
    space: dict[str, Parameter] = {
        "kind": Choice(("a", "b", "c")),
        "depth": FloatRange(0.0, 1.0, when=(Condition("kind", ("c",)),)),
    }

    def count_good(kind: SamplerKind, seed: int) -> int:
        study_file = StudyFile(Path("unused"), "s", kind, seed, startup_trials=8)
        study = optuna.create_study(direction="maximize")
        for number in range(30):
            study.sampler = study_file.make_sampler(number, conditional=True)
            trial = study.ask()
            suggest_applying(trial, to_distributions(space), list_conditions(space))
            study.tell(trial, 1.0 - abs(0.8 - trial.params.get("depth", -1.0)))
        return sum(0.6 <= trial.params.get("depth", -1.0) <= 1.0 for trial in study.trials[10:])

    assert sum(count_good("tpe", seed) for seed in range(3)) > 1.5 * sum(count_good("random", s) for s in range(3))

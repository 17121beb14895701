"""Values that a parameter contains, conditions, and the order that they ask for."""

from collections.abc import Mapping

import pytest

from search.space.parameters import (
    Condition,
    Conditions,
    Parameter,
    applies,
    contains,
    sort_parents_first,
    spell_value,
    spell_when,
)


@pytest.mark.parametrize(
    ("name", "inside", "outside"),
    [
        ("plain", [1, 4], [0, 5, 2.0, True]),
        ("stepped", [8], [3]),
        ("grid", [0.3, 0.2], [0.1 + 0.2, 0.15]),
        ("real", [1, -1.0], [1.0000001, float("nan"), "0.5"]),
        ("log_real", [1e-5], [0.0]),
        ("choice", [8], [5, "8"]),
        ("switch", [True], [1]),
    ],
)
def test_containment_at_the_boundaries(
    every_kind: Mapping[str, Parameter], name: str, inside: list[object], outside: list[object]
) -> None:
    assert [contains(every_kind[name], value) for value in inside] == [True] * len(inside)
    assert [contains(every_kind[name], value) for value in outside] == [False] * len(outside)


WHEN: dict[str, Conditions] = {"c": (Condition("b", (1,)), Condition("a", (True,))), "b": (Condition("a", (True,)),)}


@pytest.mark.parametrize(
    ("drawn", "applying"),
    [
        ({}, ["a"]),
        ({"a": False}, ["a"]),
        ({"a": True}, ["b", "a"]),
        ({"a": True, "b": 1}, ["c", "b", "a"]),
        ({"a": True, "b": 2}, ["b", "a"]),
        ({"b": 1}, ["a"]),
    ],
)
def test_conditions_are_anded(drawn: dict[str, object], applying: list[str]) -> None:
    assert [name for name in "cba" if applies(name, WHEN, drawn)] == applying


@pytest.mark.parametrize(
    ("names", "when", "order"),
    [("zxy", {}, ["z", "x", "y"]), ("cba", WHEN, ["a", "b", "c"]), ("abc", WHEN, ["a", "b", "c"])],
)
def test_parents_come_first(names: str, when: dict[str, Conditions], order: list[str]) -> None:
    assert sort_parents_first(list(names), when) == order


def test_conditions_are_spelled_as_in_a_file() -> None:
    assert Condition("a", (True,)).spell() == "a: true"
    assert Condition("a", ("x", 8, 0.0125)).spell() == "a: [x, 8, 0.0125]"
    assert [spell_value(value, ".2g") for value in (True, 8, "x", 0.0125)] == ["true", "8", "x", "0.013"]
    assert spell_when(WHEN["c"]) == {"when": {"b": 1, "a": True}}
    assert spell_when((Condition("a", (1, 2)),)) == {"when": {"a": [1, 2]}}
    assert spell_when(()) == {}

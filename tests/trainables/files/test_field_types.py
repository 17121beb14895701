"""What a file has filled a data class with is held against its annotations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from trainables.files.field_types import check_fields, check_keys, fits


@dataclass
class Part:
    name: str
    size: float = 1.0


@dataclass
class Whole:
    parts: tuple[Part, ...]
    kind: Literal["a", "b"] = "a"
    count: int | None = None
    params: Mapping[str, Any] = field(default_factory=dict)


def test_what_fits_passes() -> None:
    check_fields(Whole((Part("x"), Part("y", 2)), "b", 3, {"a": [1, None]}))
    check_keys({"a": 1, "more": None}, {"a": int})


@pytest.mark.parametrize(
    ("whole", "told"),
    [
        (Whole((Part("x"),), "c"), "kind is 'c'"),  # type: ignore[arg-type]
        (Whole((Part("x"),), [], 3), r"kind is \[\]"),  # type: ignore[arg-type]
        (Whole((), count=True), "count is True"),
        (Whole((), count="3"), "count is '3'"),  # type: ignore[arg-type]
        (Whole((), params=[]), r"params is \[\]"),  # type: ignore[arg-type]
        (Whole((), params={1: 2}), r"params is \{1: 2\}"),  # type: ignore[dict-item]
        (Whole((Part("x", None),)), "parts is .*"),  # type: ignore[arg-type]
        (Whole([Part("x")]), "parts is .*"),  # type: ignore[arg-type]
        (Whole("x"), "parts is 'x'"),  # type: ignore[arg-type]
    ],
)
def test_the_first_field_that_does_not_fit_is_named(whole: Whole, told: str) -> None:
    with pytest.raises(TypeError, match=f"^{told}$"):
        check_fields(whole)


@pytest.mark.parametrize(
    ("values", "told"),
    [([], r"config is \[\]"), ({}, "config.a is missing"), ({"a": "x" * 99}, "config.a is 'x+...")],
)
def test_the_first_key_that_does_not_fit_is_named(values: object, told: str) -> None:
    with pytest.raises(TypeError, match=f"^{told}$"):
        check_keys(values, {"a": int}, "config")


@pytest.mark.parametrize(
    ("value", "hint", "expected"),
    [
        (1, float, True),
        (True, float, False),
        (True, bool, True),
        (1.0, int, False),
        ("x", list[str], False),
        ("x", Sequence[str], False),
        (("x",), Sequence[str], True),
        (["x"], list[str], True),
        (["x", 1], list[str], False),
        ({}, list[str], False),
        ([], dict[str, int], False),
        ({"a": [1]}, dict[str, list[int]], True),
        ({"a": None}, dict[str, int], False),
        ({}, dict, True),
        ({}, str, False),
        (None, str | None, True),
        ({}, str | None, False),
        ([], Any, True),
    ],
)
def test_types_are_told_apart(value: object, hint: Any, expected: bool) -> None:
    assert fits(value, hint) == expected

"""Files are read into data classes, and every fault in them is named with its path."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import ValidationError

from trainables.errors import CheckpointError, InputError
from trainables.files.json_reader import build_record, holds, list_faults, read_json


@dataclass(frozen=True)
class Part:
    name: str
    size: float = 1.0

    def __post_init__(self) -> None:
        if self.size < 0:
            raise ValueError("size must be at least 0")


@dataclass(frozen=True)
class Whole:
    parts: tuple[Part, ...]
    kind: Literal["a", "b"] = "a"
    count: int | None = None
    by_scale: Mapping[float, float] = field(default_factory=dict)
    params: Annotated[dict[str, Any], holds(Part)] = field(default_factory=dict)


def list_all_faults(values: object, kind: Any = Whole) -> list[str]:
    with pytest.raises(ValidationError) as caught:
        build_record(values, kind)
    return list_faults(caught.value)


def test_a_record_is_built_with_tuples_and_numbers_as_keys() -> None:
    params = {"name": "z", "more": [1]}
    values = {"parts": [{"name": "x"}, {"name": "y", "size": 2}], "by_scale": {"0.5": 1}, "params": params}
    expected = Whole((Part("x"), Part("y", 2.0)), by_scale={0.5: 1.0}, params=params)
    assert build_record(values, Whole) == expected
    assert build_record({"name": "x", "more": 1}, Part, unknown="ignore") == Part("x")


@pytest.mark.parametrize(
    ("values", "faults"),
    [
        ({"parts": [], "kind": "c"}, ["kind must be 'a' or 'b', but got 'c'"]),
        ({"parts": [], "count": True}, ["count must be a valid integer, but got True"]),
        ({"parts": [], "count": "3", "q": 1}, ["count must be a valid integer, but got '3'", "q is an unknown key"]),
        ({"parts": [{"name": 5}, {}]}, ["parts.0.name must be a valid string, but got 5", "parts.1.name is missing"]),
        ({"parts": "x" * 99}, [f"parts must be a valid array, but got '{'x' * 36}..."]),
        ({"parts": [{"name": "x", "size": -1}]}, ["parts.0 size must be at least 0"]),
        ({"parts": [], "params": {}}, ["params.name is missing"]),
        ([], ["must be an object, but got []"]),
    ],
)
def test_every_fault_is_named_with_its_path(values: object, faults: list[str]) -> None:
    assert list_all_faults(values) == faults


def test_nothing_is_converted_but_whole_numbers_to_floats() -> None:
    fits: list[tuple[object, Any]] = [(1, float), (float("nan"), float), ({"a": [1]}, dict[str, list[int]])]
    for value, kind in (*fits, ([1, None], list[Any])):
        build_record(value, kind)
    others: list[tuple[object, Any]] = [(True, float), (1.0, int), ("x", list[str]), ("x", Sequence[str])]
    for value, kind in (*others, (["x", 1], list[str]), ({"a": None}, dict[str, int])):
        assert len(list_all_faults(value, kind)) == 1, (value, kind)


@pytest.mark.parametrize("content", ["", "\0\0\0", "[]", "null", "5", "{}", '{"parts": 1e400}', "[" * 100_000, "\xff"])
def test_a_damaged_file_is_one_finding_with_its_name(tmp_path: Path, content: str) -> None:
    path = tmp_path / "file.json"
    path.write_text(content, encoding="latin-1")
    with pytest.raises(CheckpointError) as caught:
        read_json(path, Whole, "export it again", CheckpointError)
    (finding,) = caught.value.findings
    assert finding.where == str(path) and finding.fix == "export it again"
    assert finding.what.startswith("cannot be read: ") and len(finding.what) < 300


def test_only_the_first_faults_of_a_file_are_listed_and_one_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "file.json").write_text('{"parts": [1, 2, 3, 4, 5, 6, 7]}')
    with pytest.raises(InputError, match=r"parts\.4 must be an object, but got 5; and 2 more"):
        read_json(tmp_path / "file.json", Whole, "look")
    with pytest.raises(InputError, match="none: cannot be read: No such file"):
        read_json(tmp_path / "none", Whole, "look")

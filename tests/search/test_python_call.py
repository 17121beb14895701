"""``run_search``: the options of the command line, checked in the same way; tests/jobs has what it returns."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path
from typing import Any

import pytest

from search import run_search
from search.command_line.options import SearchOptions
from search.python_call import read_pairs
from trainables.errors import InputError


def test_its_arguments_are_the_options_each_with_its_help() -> None:
    names = [field.name for field in dataclasses.fields(SearchOptions) if field.name not in ("dry_run", "json")]
    assert list(inspect.signature(run_search).parameters) == names
    assert all(f"\n    {name}: " in str(run_search.__doc__) for name in names)


@pytest.mark.parametrize(
    ("given", "finding"),
    [
        ({}, "run_search: one of the arguments --space --resume is required"),
        ({"space": "lora", "num_trials": 0}, "--num-trials: must be a whole number from 1"),
        ({"space": "lora", "split": "half"}, "--split: invalid choice"),
        ({"space": "lora", "trials": 3}, "trials: is no argument of run_search"),
        ({"space": "lora", "json": True}, "json: is no argument of run_search"),
        ({"space": "none.yaml"}, "none.yaml: is neither a file nor a shipped space"),
        ({"space": "lora", "set": ("sampler.kind=gpp",)}, "--set sampler.kind: must be one of"),
    ],
)
def test_wrong_input_is_raised_and_nothing_ends_the_process(
    given: dict[str, Any], finding: str, tmp_path: Path, store: Path, three_regions: Path
) -> None:
    with pytest.raises(InputError) as refused:
        run_search(**given, **({"data": three_regions, "storage": tmp_path / "runs"} if given else {}))
    assert any(str(each).startswith(finding) for each in refused.value.findings)


def test_pairs_are_those_of_validation_and_of_one_opening_of_test(tmp_path: Path) -> None:
    assert list(read_pairs(tmp_path, 1).columns) == ["split"]
    (tmp_path / "scores_val_zeroshot.csv").write_text("file,class,zeroshot\na.png,tumor,0.5\n")
    (tmp_path / "scores_test.csv").write_text("file,class,winner,zeroshot\nb.png,tumor,0.6,0.5\n")
    (tmp_path / "scores_test_2.csv").write_text("file,class,winner,zeroshot\nb.png,tumor,0.7,0.5\n")
    pairs = read_pairs(tmp_path, 2)
    assert list(pairs["split"]) == ["val", "test"] and pairs["winner"].max() == 0.7

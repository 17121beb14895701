"""``run_search``: the options of the command line, checked in the same way; tests/jobs has what it returns."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path
from typing import Any

import pytest

from search import run_search
from search.command_line.options import SearchOptions
from search.python_call import _read_arguments, read_pairs, tabulate_trials
from search.reporting.data import TrialReport
from trainables.errors import InputError


def test_its_arguments_are_the_options_each_with_its_help() -> None:
    names = [field.name for field in dataclasses.fields(SearchOptions) if field.name not in ("dry_run", "json")]
    parameters = inspect.signature(run_search).parameters
    assert list(parameters) == names
    assert [one.name for one in parameters.values() if one.kind is not one.KEYWORD_ONLY] == ["space"]
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


def test_names_in_pairs_are_texts_and_scores_are_numbers(tmp_path: Path) -> None:
    rows = "007.png,null,007,NA,nan\n1.png,NA,,NA,0.5\n"
    (tmp_path / "scores_val_zeroshot.csv").write_text(f"file,class,patient,protocol,zeroshot\n{rows}")
    pairs = read_pairs(tmp_path, 1)
    assert pairs.drop(columns=["zeroshot", "split"]).to_numpy().tolist() == [
        ["007.png", "null", "007", "NA"],
        ["1.png", "NA", "", "NA"],
    ]
    assert pairs["zeroshot"].isna().tolist() == [True, False] and list(pairs.groupby("class").groups) == ["NA", "null"]


def test_trials_have_a_column_for_each_searched_parameter() -> None:
    trial = TrialReport(0, "a", "complete", "", "", {"adapter.kind": "none"}, {}, 0, float("nan"))
    table = tabulate_trials([trial], ["adapter.kind", "adapter.rank"])
    assert table["adapter.kind"].tolist() == ["none"] and table["adapter.rank"].isna().all()


def test_the_last_search_is_looked_up_once(tmp_path: Path) -> None:
    (tmp_path / "runs" / "job").mkdir(parents=True)
    (tmp_path / "runs" / "job" / "search.json").write_text("{}")
    options = _read_arguments({"resume": "last", "storage": tmp_path / "runs"})
    assert options.resume == str(tmp_path / "runs" / "job")

"""What is sent to MLflow is what MLflow takes."""

import pytest

from search.tracking.limits import check_experiment, clean_name, fit_params, fit_tags, flatten_params, split_batches


@pytest.mark.parametrize(
    ("name", "cleaned"),
    [
        ("val_dice/tumor", "val_dice/tumor"),
        ("a.b-c d:e", "a.b-c d:e"),
        ("necrosis (debris) & co", "necrosis _debris_ _ co"),
        ("x" * 251, "x" * 250),
    ],
)
def test_names_are_ones_that_mlflow_takes(name: str, cleaned: str) -> None:
    assert clean_name(name) == cleaned


def test_nested_params_become_dotted_and_long_values_are_cut() -> None:
    assert flatten_params({"a": {"b": {"c": 1}, "d": [1, 2]}, "e": None}) == {"a.b.c": 1, "a.d": [1, 2], "e": None}
    assert len(fit_params({"a": {"b": "x" * 6001}})["a.b"]) == 6000
    assert len(fit_tags({"a": "x" * 5001})["a"]) == 5000


@pytest.mark.parametrize(("n", "sizes"), [(0, []), (100, [100]), (101, [100, 1])])
def test_batches_hold_at_most_a_hundred(n: int, sizes: list[int]) -> None:
    batches = list(split_batches(range(n)))
    assert [len(batch) for batch in batches] == sizes
    assert [entry for batch in batches for entry in batch] == list(range(n))


def test_names_that_no_experiment_can_have_are_findings() -> None:
    assert check_experiment("x" * 500) == check_experiment("mine ü / 2") == []
    assert "has 501 characters, and MLflow takes 500" in str(check_experiment("x" * 501)[0])
    assert "no UTF-8" in str(check_experiment("a\udcff")[0])

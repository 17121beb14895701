"""Names, addresses and notes, as MLflow's screens and rules want them."""

from __future__ import annotations

from urllib.parse import parse_qs

import pytest

from search.bar import RECORDED_BAR
from search.mlflow_ui import (
    clean_name,
    compose_charts_url,
    describe_recorded_bar,
    flatten_params,
    hide_password,
)


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


@pytest.mark.parametrize(
    ("store", "begin"),
    [
        ("sqlite:////data/mlflow.db", "http://127.0.0.1:5000/#/experiments/7/runs?"),
        ("https://user:secret@host/mlflow/", "https://user:***@host/mlflow/#/experiments/7/runs?"),
    ],
)
def test_charts_address(store: str, begin: str) -> None:
    url = compose_charts_url(store, "7", "abc")
    assert url.startswith(begin)
    query = parse_qs(url.partition("?")[2])
    assert query["searchFilter"] == ["tags.`mlflow.parentRunId` = 'abc'"]
    assert query["compareRunsMode"] == ["CHART"]


def test_nested_params_become_dotted() -> None:
    assert flatten_params({"a": {"b": {"c": 1}, "d": [1, 2]}, "e": None}) == {
        "a.b.c": 1,
        "a.d": [1, 2],
        "e": None,
    }


@pytest.mark.parametrize("uri", ["sqlite:////a/b.db", "http://host:5000", "http://user@host:5000/x"])
def test_uri_without_password_stays(uri: str) -> None:
    assert hide_password(uri) == uri


def test_the_recorded_bar_is_told_with_its_protocol() -> None:
    note = describe_recorded_bar(RECORDED_BAR)
    assert all(word in note for word in ("0.517", "0.374", "test", "BCSS", "`recorded`", "not measured here"))

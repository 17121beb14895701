"""Addresses and notes, as MLflow's screens want them."""

import json
from urllib.parse import parse_qs

import pytest

from search.command_line.paths import hide_password
from search.space.recorded_experiments import RECORDED_BAR, RECORDED_EXPERIMENTS
from search.tracking.pages import (
    RECORDED_VIEW,
    RECORDED_VIEW_TAG,
    compose_charts_url,
    compose_recorded_url,
    describe_recorded_bar,
    describe_recorded_experiment,
    describe_view,
)


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


@pytest.mark.parametrize(
    ("store", "lines"),
    [
        ("sqlite:////a/b.db", ["run  mlflow ui --backend-store-uri sqlite:////a/b.db", "open URL"]),
        ("sqlite:////my a#/b.db", ["run  mlflow ui --backend-store-uri 'sqlite:////my a#/b.db'", "open URL"]),
        ("mysql://me:pw@host/a", ['run  mlflow ui --backend-store-uri "$MLFLOW_TRACKING_URI"', "open URL"]),
        ("https://me:pw@host", ["open URL"]),
    ],
)
def test_a_page_is_shown_by_the_store_that_holds_it(store: str, lines: list[str]) -> None:
    assert describe_view(store, "URL") == lines


@pytest.mark.parametrize("uri", ["sqlite:////a/b.db", "http://host:5000", "http://user@host:5000/x"])
def test_uri_without_password_stays(uri: str) -> None:
    assert hide_password(uri) == uri


def test_the_recorded_bar_names_its_protocol() -> None:
    note = describe_recorded_bar(RECORDED_BAR)
    assert all(word in note for word in ("0.517", "0.374", "test", "BCSS", "`recorded`", "not measured here"))


def test_the_recorded_table_is_a_shared_view_that_the_address_names() -> None:
    url = compose_recorded_url("sqlite:////data/mlflow.db", "7")
    assert url.startswith("http://127.0.0.1:5000/#/experiments/7/runs?")
    query = parse_qs(url.partition("?")[2])
    assert RECORDED_VIEW_TAG == "mlflow.sharedViewState." + query["viewStateShareKey"][0]
    # MLflow ignores the view where the address carries a filter or a sort key.
    assert set(query) == {"workflowType", "viewStateShareKey"}
    view = json.loads(RECORDED_VIEW)
    assert set(view["columnWidths"]) <= set(view["selectedColumns"])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("zeroshot", "the bar of protocol recorded"),
        ("box-focal", "0.037 above zero-shot under the same protocol"),
        ("v2", "the log does not say"),
        ("prompts", "No figure recorded"),
    ],
)
def test_a_recorded_figure_says_what_it_can_be_compared_with(name: str, text: str) -> None:
    (row,) = (each for each in RECORDED_EXPERIMENTS if each.name == name)
    note = describe_recorded_experiment(row)
    assert text in note and row.description in note

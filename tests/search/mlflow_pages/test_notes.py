"""Notes, as MLflow's screens want them."""

import json
from urllib.parse import parse_qs

import pytest

from search.mlflow_pages.addresses import compose_table_url
from search.mlflow_pages.notes import (
    RECORDED_VIEW,
    RECORDED_VIEW_KEY,
    RECORDED_VIEW_TAG,
    describe_recorded_bar,
    describe_recorded_experiment,
)
from search.space.recorded_experiments import RECORDED_BAR, RECORDED_EXPERIMENTS


def test_the_recorded_bar_names_its_protocol() -> None:
    note = describe_recorded_bar(RECORDED_BAR)
    assert all(word in note for word in ("0.517", "0.374", "test", "BCSS", "`recorded`", "not measured here"))


def test_the_recorded_table_is_a_shared_view_that_the_address_names() -> None:
    url = compose_table_url("sqlite:////data/mlflow.db", "7", RECORDED_VIEW_KEY)
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

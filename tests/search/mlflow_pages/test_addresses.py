"""Addresses of MLflow's screens, and the command that serves them."""

from urllib.parse import parse_qs

import pytest

from search.mlflow_pages.addresses import compose_table_url, describe_view


@pytest.mark.parametrize(
    ("store", "begin"),
    [
        ("sqlite:////data/mlflow.db", "http://127.0.0.1:5000/#/experiments/7/runs?"),
        ("https://user:secret@host/mlflow/", "https://user:***@host/mlflow/#/experiments/7/runs?"),
    ],
)
def test_charts_address(store: str, begin: str) -> None:
    url = compose_table_url(store, "7", "abc", compareRunsMode="CHART")
    assert url.startswith(begin)
    query = parse_qs(url.partition("?")[2])
    # MLflow ignores the view where the address carries a filter or a sort key.
    assert query == {"workflowType": ["machine_learning"], "compareRunsMode": ["CHART"], "viewStateShareKey": ["abc"]}


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

"""Addresses of MLflow's screens, and the command that serves those of a local store."""

import shlex
from urllib.parse import quote, urlencode, urlparse

from search.command_line.paths import hide_password

LOCAL_UI = "http://127.0.0.1:5000"  # where `mlflow ui` starts it


def describe_view(tracking_uri: str, url: str) -> list[str]:
    """Returns what to do to see a page of a store: a command that serves a local one, and the page's address."""
    if urlparse(tracking_uri).scheme in ("http", "https"):
        return [f"open {url}"]
    return [f"run  mlflow ui --backend-store-uri {quote_uri(tracking_uri)}", f"open {url}"]


def compose_table_url(tracking_uri: str, experiment_id: str, view: str, **mode: str) -> str:
    """Returns the address of a saved view's table of runs, or of the page in another of MLflow's modes.

    It is on the store's server, or on the UI of a local store.
    """
    # A filter or a sort key in the address would make MLflow ignore the view.
    query = {"workflowType": "machine_learning", **mode, "viewStateShareKey": view}
    base = tracking_uri if urlparse(tracking_uri).scheme in ("http", "https") else LOCAL_UI
    fragment = f"/experiments/{experiment_id}/runs?{urlencode(query, quote_via=quote)}"
    return f"{hide_password(base.rstrip('/'))}/#{fragment}"


def quote_uri(uri: str) -> str:
    """Returns a store's URI as a word of a shell's command; of one that holds a password, the variable that gave it."""
    return shlex.quote(uri) if hide_password(uri) == uri else '"$MLFLOW_TRACKING_URI"'

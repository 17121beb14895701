"""Opens MLflow's store: its URI, timeouts, the experiment."""

import contextlib
import fcntl
import functools
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from search.mlflow_pages.addresses import quote_uri
from search.tracking.errors import TrackingError, translate_errors

# A dead server blocks a call for four minutes by MLflow's own defaults, and for 5 s by these. A request whose answer is
# lost is not repeated blindly, which would open a run twice: records wait in the search's queue for their next try.
# The last two keep the client from printing whenever a run on a server ends, or files are copied.
ENVIRONMENT_DEFAULTS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}

# The kind opens the table and charts of training runs; without it the UI asks the user first.
_EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}


class ExperimentDeleted(TrackingError):
    """The experiment is in the store's bin, and its name cannot be taken before it is restored."""

    def __init__(self, name: str, experiment_id: str, uri: str) -> None:
        self.experiment_id = experiment_id
        super().__init__(
            f"experiment '{name}' has been deleted there; name another, or restore it by "
            f"MLFLOW_TRACKING_URI={quote_uri(uri)} mlflow experiments restore -x {experiment_id}"
        )


def set_environment_defaults() -> None:
    """Bounds how long MLflow's client waits for a server; variables that the user has set stay."""
    for name, value in ENVIRONMENT_DEFAULTS.items():
        os.environ.setdefault(name, value)


def resolve_uri(default_uri: str = "") -> str:
    """Returns the store that a search uses: `MLFLOW_TRACKING_URI`, else the given one, else MLflow's own default.

    Its path is absolute, as Ray changes directories later.
    """
    set_environment_defaults()
    if os.environ.get("MLFLOW_TRACKING_URI") or not default_uri:
        from mlflow.tracking import get_tracking_uri

        return make_uri_absolute(str(get_tracking_uri()))
    return make_uri_absolute(default_uri)


@contextmanager
def take_turns(uri: str) -> Iterator[None]:
    """Lets one process at a time open a sqlite store: of two that make its tables at once, one fails in MLflow."""
    database = find_database(uri)
    if database is None or not database.parent.is_dir():
        yield
        return
    folder = os.open(database.parent, os.O_RDONLY)  # locking it leaves no file
    try:
        with contextlib.suppress(OSError):  # where a file system has no such locks, nobody waits
            fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def find_or_create_experiment(client: Any, name: str, tags: Mapping[str, str]) -> str:
    """Returns the id of the experiment of that name, made with these tags if missing; one that exists keeps its own.

    Raises:
        ExperimentDeleted: The experiment is there, but deleted.
        TrackingError: The store cannot be reached or refuses.
    """
    with translate_errors("open the experiment"):
        if found := find_experiment(client, name):
            return found
        try:
            return str(client.create_experiment(name, tags={**_EXPERIMENT_TAGS, **tags}))
        except Exception:
            # Another process may have made it since; where it has not, the error is the answer.
            if found := find_experiment(client, name):
                return found
            raise


def find_experiment(client: Any, name: str) -> str:
    """Returns the id of the experiment of that name; empty where there is none; raises what MLflow does.

    Raises:
        ExperimentDeleted: The experiment is there, but deleted.
    """
    experiment = client.get_experiment_by_name(name)
    if experiment is not None and experiment.lifecycle_stage != "active":
        raise ExperimentDeleted(name, str(experiment.experiment_id), client.tracking_uri)
    return "" if experiment is None else str(experiment.experiment_id)


def suggest_remedy(uri: str, error: Exception) -> str:
    """Returns what to do about a store that cannot be opened, by what MLflow says of it."""
    words = str(error)
    if isinstance(error, ExperimentDeleted):
        return "restore it or name another with --experiment"
    if "database schema" in words:
        command = f"mlflow db upgrade {quote_uri(uri)}"
        return f"copy the database, then run `{command}` (with the newest MLflow that has written to it)"
    if uri.startswith("file:"):
        database = quote_uri(make_uri_absolute("sqlite:///mlflow.db"))
        return (
            f"set MLFLOW_TRACKING_URI={database} (the old runs stay where they are; `mlflow migrate-filestore` "
            "copies them into a database), or set MLFLOW_ALLOW_FILE_STORE=true to go on with the folder"
        )
    if any(each in words for each in ("401", "403", "authenticated", "ermission", "valid JSON", "UNAUTH")):
        return (
            "give what the server asks for: MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or "
            "MLFLOW_TRACKING_TOKEN; and look whether the address is MLflow's own and not a sign-in page's"
        )
    if uri.startswith("http"):
        return "start the server, point MLFLOW_TRACKING_URI to another store, or unset it to use a database in a file"
    return "set MLFLOW_TRACKING_URI to another store, such as sqlite:////a/folder/that/can/be/written/mlflow.db"


def make_uri_absolute(uri: str) -> str:
    """Returns a tracking URI with its path, if relative, made absolute against the working directory."""
    if (database := find_database(uri)) is not None:
        path, query = str(database.absolute()), "".join(uri.partition("?")[1:])
        if takes_escapes() and (unquote(path) != path or "?" in path):  # only then: MLflow makes a folder of that name
            path = path.replace("%", "%25").replace("?", "%3F")
        return f"sqlite:///{path}{query}"
    if uri.startswith("sqlite:"):
        return uri
    if uri.startswith("file:") and not uri.startswith("file:/"):
        return Path(uri[len("file:") :]).absolute().as_uri()
    if "://" not in uri and not uri.startswith(("databricks", "file:")):
        return Path(uri).absolute().as_uri()
    return uri


def find_database(uri: str) -> Path | None:
    """Returns the file of a store that is a sqlite database; None for all others."""
    path = uri.removeprefix("sqlite:///").partition("?")[0]
    if not uri.startswith("sqlite:///") or path in ("", ":memory:"):
        return None
    plain, literal = Path(unquote(path)), Path(path)
    # MLflow escapes its default path, which is not what SQLAlchemy opens if it takes no escapes.
    is_plain = takes_escapes() or (plain.parent.is_dir() and not literal.parent.is_dir())
    return plain if is_plain else literal


@functools.cache
def takes_escapes() -> bool:
    """Whether SQLAlchemy reads ``%20`` in a database's path as a space, as it does since version 2.1."""
    from sqlalchemy import make_url

    return make_url("sqlite:///%41").database == "A"

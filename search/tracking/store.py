"""Opens MLflow's store: its URI, timeouts, quiet loggers, the experiment."""

import fcntl
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from search.tracking.errors import TrackingError, translate_errors

# A dead server blocks a call for four minutes by MLflow's own defaults, and for 5 s by these. A request whose answer is
# lost is not repeated blindly, which would open a run twice: records wait in the search's queue for their next try.
# The last one keeps the client from printing two lines whenever a run on a server ends.
ENVIRONMENT_DEFAULTS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}

# The kind opens the table and charts of training runs; without it the UI asks the user first.
_EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}


class ExperimentDeleted(TrackingError):
    """The experiment is in the store's bin, and its name cannot be taken before it is restored."""

    def __init__(self, name: str, experiment_id: str) -> None:
        self.experiment_id = experiment_id
        super().__init__(
            f"experiment '{name}' has been deleted there; restore it (mlflow experiments restore "
            f"-x {experiment_id}) or name another"
        )


def set_environment_defaults() -> None:
    """Bounds how long MLflow's client waits for a server; variables that the user has set stay."""
    for name, value in ENVIRONMENT_DEFAULTS.items():
        os.environ.setdefault(name, value)


@contextmanager
def take_turns(uri: str) -> Iterator[None]:
    """Lets one process at a time open a sqlite store: of two that make its tables at once, one fails in MLflow."""
    database = find_database(uri)
    if database is None or not database.parent.is_dir():
        yield
        return
    folder = os.open(database.parent, os.O_RDONLY)  # locking it leaves no file
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def quiet_loggers() -> None:
    """Keeps table migrations off the screen, and tracebacks of failures that this package reports itself."""
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)


def find_or_create_experiment(client: Any, name: str, tags: Mapping[str, str]) -> str:
    """Returns the id of the experiment of that name, made with these tags if missing; one that exists keeps its own.

    Raises:
        ExperimentDeleted: The experiment is there, but deleted.
        TrackingError: The store cannot be reached or refuses.
    """
    with translate_errors("open the experiment"):
        experiment = client.get_experiment_by_name(name)
        if experiment is None:
            try:
                return str(client.create_experiment(name, tags={**_EXPERIMENT_TAGS, **tags}))
            except Exception:
                # Another process may have made it since; where it has not, the error is the answer.
                experiment = client.get_experiment_by_name(name)
                if experiment is None:
                    raise
    if experiment.lifecycle_stage != "active":
        raise ExperimentDeleted(name, str(experiment.experiment_id))
    return str(experiment.experiment_id)


def make_uri_absolute(uri: str) -> str:
    """Returns a tracking URI with its path, if relative, made absolute against the working directory."""
    if uri.startswith("sqlite:///"):
        database = uri[len("sqlite:///") :]
        in_memory = database in ("", ":memory:")
        return uri if in_memory else f"sqlite:///{_unescape(Path(database)).absolute()}"
    if uri.startswith("file:") and not uri.startswith("file:/"):
        return Path(uri[len("file:") :]).absolute().as_uri()
    if "://" not in uri and not uri.startswith(("databricks", "file:")):
        return Path(uri).absolute().as_uri()
    return uri


def find_database(uri: str) -> Path | None:
    """Returns the file of a store that is a sqlite database; None for all others."""
    path = uri.removeprefix("sqlite:///")
    return Path(path) if path not in (uri, "", ":memory:") else None


def _unescape(database: Path) -> Path:
    """Returns the database that MLflow means: it escapes its default path, which SQLAlchemy takes as it is."""
    plain = Path(unquote(str(database)))
    return plain if plain.parent.is_dir() and not database.parent.is_dir() else database

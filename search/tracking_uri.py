"""Where MLflow's store lies, independent of the working directory: Ray gives each trial another one."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote


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
    """Returns the database that MLflow means by its default: it escapes the working directory, which SQLAlchemy
    takes as it stands (seen in mlflow 3.17), so that the store would lie in another folder than `mlflow ui` looks in.
    """
    plain = Path(unquote(str(database)))
    return plain if plain.parent.is_dir() and not database.parent.is_dir() else database

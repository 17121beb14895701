"""Whether something listens at an address, without a word to it: clients of their own would try for minutes."""

from __future__ import annotations

import os
from importlib.metadata import entry_points
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass, url2pathname

from search.cluster.start import connect_once
from search.command_line.paths import hide_password
from search.errors import ConfigError
from search.tracking.store import find_database, make_uri_absolute
from search.tracking.tracker import takes_folders
from trainables.errors import Finding

_PORTS = {"http": 80, "https": 443}
_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
_SQLITE = b"SQLite format 3\0"


def check_tracking(uri: str | None) -> None:
    """Checks that MLflow's store can be there: a server that listens, a file or folder that can be written.

    Args:
        uri: Of the store; None or empty for MLflow's default, a database in the working directory.

    Raises:
        ConfigError: If it cannot. Stores of other kinds (databases with servers of their own) are left to MLflow.
    """
    if not uri:
        _check_database(Path.cwd() / "mlflow.db", "MLflow's store")
        return
    where = f"MLFLOW_TRACKING_URI {hide_password(uri)}"
    fix = "start the server, or set it to another store, or unset it to use a database in the working directory"
    if not uri.strip():
        raise ConfigError([Finding(where, "is blank", fix)])
    try:
        absolute = make_uri_absolute(uri)
        parts = urlsplit(absolute)
        host, port = parts.hostname, parts.port or _PORTS.get(parts.scheme, 0)
    except ValueError as error:
        raise ConfigError([Finding(where, str(error), fix)]) from error
    if parts.scheme in _PORTS:
        _check_server(where, parts.scheme, host, port, fix)
    elif database := find_database(absolute):
        _check_database(database, where)
    elif _is_known(absolute.partition(":")[0]):
        return  # only MLflow can tell
    elif parts.scheme in ("", "file"):
        _check_folder(Path(url2pathname(parts.path)), where)
    else:
        what = f"MLflow has no store of the kind {parts.scheme}"
        raise ConfigError([Finding(where, what, f"kinds are: {', '.join(_DATABASES)}, http, https")])


def _is_known(scheme: str) -> bool:
    """Whether MLflow has such a store, of its own or by a plugin; a database may name its driver: ``mysql+pymysql``."""
    kind, _, driver = scheme.partition("+")
    plugins = {plugin.name for plugin in entry_points(group="mlflow.tracking_store")}
    return kind in _DATABASES and "+" not in driver or scheme == "databricks" or scheme in plugins


def _check_server(where: str, scheme: str, host: str | None, port: int, fix: str) -> None:
    if not host:
        raise ConfigError([Finding(where, "names no host", fix)])
    if scheme in getproxies() and not proxy_bypass(host):
        return  # only the proxy can tell
    try:
        connect_once(host, port)
    except (OSError, ValueError) as error:  # the second for what can be no host's name
        what = f"no server answers at {host}:{port} ({getattr(error, 'strerror', None) or error})"
        raise ConfigError([Finding(where, what, fix)]) from error


def _check_folder(folder: Path, where: str) -> None:
    fix = "set it to a database: sqlite:///mlflow.db"
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if not there.is_dir():
        raise ConfigError([Finding(where, f"{there} is not a folder", fix)])
    if not _is_writable(there):
        raise ConfigError([Finding(where, f"{there} cannot be written", fix)])
    if not takes_folders():
        what = "is a folder, which MLflow takes only where MLFLOW_ALLOW_FILE_STORE is true"
        raise ConfigError([Finding(where, what, fix)])


def _check_database(database: Path, where: str) -> None:
    fix = "work in another directory, or set MLFLOW_TRACKING_URI to a store that can be written"
    if not database.parent.is_dir():
        raise ConfigError([Finding(where, f"{database.parent} is not a folder", fix)])
    # The database keeps its journal beside it.
    unwritable = next((path for path in (database.parent, database) if path.exists() and not _is_writable(path)), None)
    if unwritable is not None:
        raise ConfigError([Finding(where, f"{unwritable} cannot be written", fix)])
    if database.is_dir():
        raise ConfigError([Finding(where, f"{database} is a folder, not a database", fix)])
    if database.exists() and not database.is_file():
        raise ConfigError([Finding(where, f"{database} is no plain file", fix)])
    if database.is_file() and database.stat().st_size:
        with database.open("rb") as file:
            if file.read(len(_SQLITE)) != _SQLITE:
                raise ConfigError([Finding(where, f"{database} is no sqlite database", fix)])


def _is_writable(path: Path) -> bool:
    """Whether a file or folder can be written; a read-only file system says no to the administrator too."""
    return os.access(path, os.W_OK | (os.X_OK if path.is_dir() else 0))

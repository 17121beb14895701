"""Whether something listens at an address, without a word to it: clients of their own would try for minutes."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from search.errors import ConfigError
from search.mlflow_ui import hide_password
from search.tracking_uri import find_database, make_uri_absolute
from trainables.errors import Finding

CONNECT_TIMEOUT_S = 5.0
_PORTS = {"http": 80, "https": 443}
_SQLITE = b"SQLite format 3\0"


def connect_once(host: str, port: int) -> None:
    """Connects, and hangs up.

    Raises:
        OSError: If nothing listens there, or nothing answers within ``CONNECT_TIMEOUT_S``.
    """
    socket.create_connection((host, port), timeout=CONNECT_TIMEOUT_S).close()


def check_tracking(uri: str | None) -> None:
    """Checks that MLflow's store can be there: a server that listens, or a folder that can be written.

    Args:
        uri: Of the store; None or empty for MLflow's default, a database in the working directory.

    Raises:
        ConfigError: If it cannot. Stores of other kinds (databases with servers of their own) are left to MLflow.
    """
    if not uri:
        _check_database(Path.cwd() / "mlflow.db", "MLflow's store")
        return
    where = f"MLFLOW_TRACKING_URI {hide_password(uri)}"
    parts = urlsplit(uri)
    if parts.scheme in _PORTS:
        _check_server(where, uri)
    elif database := find_database(make_uri_absolute(uri)):
        _check_database(database, where)


def _check_server(where: str, uri: str) -> None:
    parts = urlsplit(uri)
    fix = "start the server, or set it to another store, or unset it to use a database in the working directory"
    try:
        host, port = parts.hostname, parts.port or _PORTS[parts.scheme]
    except ValueError as error:
        raise ConfigError([Finding(where, str(error), fix)]) from error
    if not host:
        raise ConfigError([Finding(where, "names no host", fix)])
    if parts.scheme in getproxies() and not proxy_bypass(host):
        return  # only the proxy can tell
    try:
        connect_once(host, port)
    except OSError as error:
        what = f"no server answers at {host}:{port} ({error.strerror or error})"
        raise ConfigError([Finding(where, what, fix)]) from error


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
    if database.is_file() and database.stat().st_size:
        with database.open("rb") as file:
            if file.read(len(_SQLITE)) != _SQLITE:
                raise ConfigError([Finding(where, f"{database} is no sqlite database", fix)])


def _is_writable(path: Path) -> bool:
    """Whether a file or folder can be written; a read-only file system says no to the administrator too."""
    return os.access(path, os.W_OK | (os.X_OK if path.is_dir() else 0))

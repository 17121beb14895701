"""Checks that MLflow's store can be used, without using it: MLflow itself would retry for minutes."""

import os
from importlib.metadata import entry_points
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass, url2pathname

from search.cluster.start import connect_once
from search.command_line.paths import hide_password
from search.errors import ConfigError
from search.tracking.store import find_database, make_uri_absolute, takes_escapes
from search.tracking.tracker import takes_folders

_PORTS = {"http": 80, "https": 443}
_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
_SQLITE = b"SQLite format 3\0"


def check_tracking(uri: str | None) -> None:
    """Checks that a store's server listens, or that its file or folder can be written.

    Without a URI it is MLflow's default, a database in the working directory.

    Raises:
        ConfigError: If it cannot be used. Stores of other kinds (databases with servers of their own) are left to
            MLflow.
    """
    if not uri:
        if "?" in str(Path.cwd()) and not takes_escapes():
            what = f"would lie elsewhere: what follows the ? in {Path.cwd()} is no part of a database's path"
            raise ConfigError.at("MLflow's store", what, "work in another directory, or set MLFLOW_TRACKING_URI")
        _check_database(Path.cwd() / "mlflow.db", "MLflow's store")
        return
    where = f"MLFLOW_TRACKING_URI {hide_password(uri)}"
    fix = "start the server, or set it to another store, or unset it to use a database in the working directory"
    try:
        if not uri.strip():
            raise ValueError("is blank")
        absolute = make_uri_absolute(uri)
        parts = urlsplit(absolute)
        port = parts.port  # raises ValueError where it is no number
        if parts.scheme in _PORTS:
            _check_server(parts.scheme, parts.hostname, port or _PORTS[parts.scheme])
            return
    except ValueError as error:
        raise ConfigError.at(where, str(error), fix) from error
    if database := find_database(absolute):
        _check_database(database, where)
    elif not _is_known(absolute.partition(":")[0]):  # of those that are known, only MLflow knows more
        if parts.scheme not in ("", "file"):
            what, kinds = f"MLflow has no store of the kind {parts.scheme}", ", ".join(_DATABASES)
            raise ConfigError.at(where, what, f"kinds are: {kinds}, http, https")
        _check_folder(Path(url2pathname(parts.path)), where)


def _is_known(scheme: str) -> bool:
    """Whether MLflow has such a store, of its own or by a plugin; a database may name its driver: ``mysql+pymysql``."""
    kind, _, driver = scheme.partition("+")
    plugins = {plugin.name for plugin in entry_points(group="mlflow.tracking_store")}
    return kind in _DATABASES and "+" not in driver or scheme == "databricks" or scheme in plugins


def _check_server(scheme: str, host: str | None, port: int) -> None:
    if not host:
        raise ValueError("names no host")
    if scheme in getproxies() and not proxy_bypass(host):
        return  # only the proxy knows
    try:
        connect_once(host, port)
    except (OSError, ValueError) as error:  # ValueError: no valid host name
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"no server answers at {host}:{port} ({reason})") from error


def _check_folder(folder: Path, where: str) -> None:
    fix = "set it to a database: sqlite:///mlflow.db"
    nearest = next(path for path in (folder, *folder.parents) if path.exists())
    if not nearest.is_dir():
        raise ConfigError.at(where, f"{nearest} is not a folder", fix)
    if not _is_writable(nearest):
        raise ConfigError.at(where, f"{nearest} cannot be written", fix)
    if not takes_folders():
        raise ConfigError.at(where, "is a folder, which MLflow takes only where MLFLOW_ALLOW_FILE_STORE is true", fix)


def _check_database(database: Path, where: str) -> None:
    if not database.parent.is_dir():
        what = f"{database.parent} is not a folder"
    elif not _is_writable(database.parent):  # the database keeps its journal beside it
        what = f"{database.parent} cannot be written"
    elif not database.exists():
        return
    elif not _is_writable(database):
        what = f"{database} cannot be written"
    elif not database.is_file():
        what = f"{database} is not a file"
    else:
        with database.open("rb") as file:
            if file.read(len(_SQLITE)) in (b"", _SQLITE):
                return
        what = f"{database} is no sqlite database"
    fix = "work in another directory, or set MLFLOW_TRACKING_URI to a store that can be written"
    raise ConfigError.at(where, what, fix)


def _is_writable(path: Path) -> bool:
    """Whether a file or folder can be written; a read-only file system refuses the administrator too."""
    return os.access(path, os.W_OK | (os.X_OK if path.is_dir() else 0))

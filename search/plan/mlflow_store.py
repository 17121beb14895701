"""Opens MLflow's store as the search will, before anything starts; MLflow would try a dead server for minutes."""

import contextlib
import os
import sqlite3
import uuid
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from search.command_line.paths import hide_password
from search.errors import ConfigError
from search.tracking.errors import TrackingError
from search.tracking.store import find_database, make_uri_absolute, resolve_uri, suggest_remedy, takes_escapes
from search.tracking.tracker import Tracker


def check_tracking(uri: str | None, experiment: str) -> None:
    """Opens the store and looks for the experiment; of what does not exist yet, checks that it can be made.

    Args:
        uri: Of the store; None or empty for MLflow's default in the working directory.
        experiment: Its name.

    Raises:
        ConfigError: If the store cannot be used, or the experiment has been deleted there.
    """
    where = f"MLFLOW_TRACKING_URI {hide_password(uri)}" if uri else "MLflow's store"
    if not uri and "?" in str(Path.cwd()) and not takes_escapes():
        what = f"would lie elsewhere: what follows the ? in {Path.cwd()} is no part of a database's path"
        raise ConfigError.at(where, what, "work in another directory, or set MLFLOW_TRACKING_URI")
    fix = "start the server, or set it to another store, or unset it to use a database in the working directory"
    try:
        if uri and not uri.strip():
            raise ValueError("is blank")
        absolute = make_uri_absolute(uri) if uri else resolve_uri()
        parts = urlsplit(absolute)
        _ = parts.port  # raises ValueError where it is no number
        if parts.scheme in ("http", "https") and not parts.hostname:
            raise ValueError("names no host")  # MLflow would ask a host named api
    except ValueError as error:
        raise ConfigError.at(where, str(error), fix) from error
    exists = True
    if database := find_database(absolute):
        exists = _check_database(database, where)
    elif parts.scheme == "file":
        exists = _check_folder(Path(url2pathname(parts.path)), where)
    if exists:
        try:
            Tracker(absolute, "").look(experiment)
        except (TrackingError, TimeoutError) as error:
            at = where if uri else f"{where} {hide_password(absolute)}"
            raise ConfigError.at(at, str(error), suggest_remedy(absolute, error)) from error


def _check_folder(folder: Path, where: str) -> bool:
    """Returns whether MLflow can be asked about a folder of runs, which it makes where it takes such folders."""
    fix = "set it to a database: sqlite:///mlflow.db"
    nearest = next(path for path in (folder, *folder.parents) if path.exists())
    if not nearest.is_dir():
        raise ConfigError.at(where, f"{nearest} is not a folder", fix)
    if not _is_writable(nearest):
        raise ConfigError.at(where, f"{nearest} cannot be written", fix)
    return folder.exists() or not os.environ.get("MLFLOW_ALLOW_FILE_STORE")


def _check_database(database: Path, where: str) -> bool:
    """Returns whether a database holds MLflow's tables, after trying its folder with another one."""
    if not database.parent.is_dir():
        what = f"{database.parent} is not a folder"
    elif not _is_writable(database.parent):  # the database keeps its journal beside it
        what = f"{database.parent} cannot be written"
    elif database.exists() and not database.is_file():
        what = f"{database} is not a file"
    elif database.exists() and not _is_writable(database):
        what = f"{database} cannot be written"
    elif why := _try_folder(database.parent):
        what = f"{database.parent} cannot hold a sqlite database: {why}"
    elif not database.exists():
        return False
    else:
        try:
            # To be written, as a killed search may have left a transaction that is rolled back when it is opened.
            with contextlib.closing(sqlite3.connect(f"{database.as_uri()}?mode=rw", uri=True)) as opened:
                return bool(opened.execute("select * from sqlite_master where name = 'alembic_version'").fetchall())
        except sqlite3.Error as error:
            what = f"{database} is no sqlite database that can be read: {error}"
    fix = "work in another directory, or set MLFLOW_TRACKING_URI to a store that can be written"
    raise ConfigError.at(where, what, fix)


def _try_folder(folder: Path) -> str:
    """Returns why sqlite cannot write in a folder, such as one without locks; empty where it can."""
    probe = folder / f".probe-{uuid.uuid4().hex}.db"
    try:
        with contextlib.closing(sqlite3.connect(probe)) as opened, opened:
            opened.execute("create table probe (number)")
    except sqlite3.Error as error:
        return str(error)
    finally:
        for path in folder.glob(f"{probe.name}*"):
            path.unlink()
    return ""


def _is_writable(path: Path) -> bool:
    """Whether a file or folder can be written; a read-only file system refuses the administrator too."""
    return os.access(path, os.W_OK | (os.X_OK if path.is_dir() else 0))

"""MLflow's store and clusters are looked for before anything starts."""

from __future__ import annotations

import os
import socket
import sqlite3
from pathlib import Path

import pytest

from search.errors import ConfigError
from search.plan.mlflow_store import check_tracking


def find_free_port() -> int:
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return int(place.getsockname()[1])


@pytest.fixture
def cwd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_stores_that_can_be_used_pass_and_nothing_is_made(cwd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        place.listen()
        server = f"http://127.0.0.1:{place.getsockname()[1]}"
        for uri in (
            None,
            "",
            server,
            "sqlite:///any.db",
            "./mlruns",
            "file:new",
            "databricks",
            "mysql+pymysql://u:p@host/a",
        ):
            check_tracking(uri)
    assert not list(cwd.iterdir())
    sqlite3.connect(cwd / "mlflow.db").execute("create table a (b)").connection.close()
    check_tracking(None)


@pytest.mark.parametrize(
    ("uri", "what"),
    [
        ("http://someone:secret@127.0.0.1:{port}", "no server answers at 127.0.0.1:"),
        ("http://127.0.0.1:99999", "Port out of range"),
        ("http://", "names no host"),
        ("http://[", "Invalid IPv6 URL"),
        ("http://" + "a" * 70, "no server answers at a"),
        (" ", "is blank"),
        ("nope://x", "no store of the kind nope"),
        ("mysql+a+b://x", "no store of the kind mysql+a+b"),
        ("file:a.txt", "a.txt is not a folder"),
        ("./a.txt/below", "a.txt is not a folder"),
        ("sqlite:///a pipe", "is not a file"),
        ("sqlite:///no such folder/a.db", "is not a folder"),
        ("sqlite:///a folder", "is not a file"),
        ("sqlite:///a.txt", "is no sqlite database"),
    ],
)
def test_stores_that_cannot_be_used_are_findings(cwd: Path, uri: str, what: str) -> None:
    (cwd / "a folder").mkdir()
    os.mkfifo(cwd / "a pipe")
    (cwd / "a.txt").write_text("any words that are no database")
    with pytest.raises(ConfigError) as caught:
        check_tracking(uri.format(port=find_free_port()))
    found = str(caught.value)
    assert what in found and "MLFLOW_TRACKING_URI" in found and "secret" not in found


def test_a_folder_is_a_store_only_where_mlflow_takes_it(cwd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    switch = pytest.importorskip("mlflow.environment_variables")
    if not hasattr(switch, "MLFLOW_ALLOW_FILE_STORE"):
        pytest.skip("this MLflow takes any folder")
    monkeypatch.delenv("MLFLOW_ALLOW_FILE_STORE", raising=False)
    with pytest.raises(ConfigError, match="MLFLOW_ALLOW_FILE_STORE"):
        check_tracking("./mlruns")


def test_an_old_sqlalchemy_could_not_open_a_database_in_a_folder_with_a_question_mark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "why?").mkdir()
    monkeypatch.chdir(tmp_path / "why?")
    check_tracking(None)
    monkeypatch.setattr("search.plan.mlflow_store.takes_escapes", lambda: False)  # as before SQLAlchemy 2.1
    with pytest.raises(ConfigError, match=r"what follows the \? .* set MLFLOW_TRACKING_URI"):
        check_tracking(None)
    check_tracking(f"sqlite:///{tmp_path}/team.db")

"""MLflow's store is opened before anything starts, and nothing is made in it."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from search.errors import ConfigError
from search.plan.mlflow_store import check_tracking
from search.tracking.tracker import Tracker


def find_free_port() -> int:
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return int(place.getsockname()[1])


@pytest.fixture
def cwd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@contextlib.contextmanager
def answer(status: int, body: str) -> Iterator[str]:
    """Serves one answer to every request; yields the address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_stores_that_can_be_used_pass_and_nothing_is_made(cwd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    experiment = {"experiment_id": "1", "name": "lora", "lifecycle_stage": "active"}
    with answer(200, json.dumps({"experiment": experiment})) as server:
        check_tracking(server, "lora")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    for uri in (None, "", "sqlite:///any.db", "./mlruns", "file:new"):
        check_tracking(uri, "lora")
    assert not list(cwd.iterdir())
    sqlite3.connect(cwd / "mlflow.db").execute("create table a (b)").connection.close()
    check_tracking(None, "lora")  # somebody else's tables are left alone
    assert [path.name for path in cwd.iterdir()] == ["mlflow.db"]


def test_a_store_that_is_there_is_opened(store: Path) -> None:
    before = (store / "mlflow.db").read_bytes()
    check_tracking(None, "new")
    assert (store / "mlflow.db").read_bytes() == before


KILLED = """
import os, signal, sqlite3, sys
store = sqlite3.connect(sys.argv[1])
store.execute("pragma cache_size = 1")
store.executemany("insert into probe values (?)", [(f"{number:01000d}",) for number in range(100)])
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_store_in_which_a_search_was_killed_is_opened(store: Path) -> None:
    """In the middle of a transaction, which sqlite takes back where the database may be written."""
    database = store / "mlflow.db"
    with contextlib.closing(sqlite3.connect(database)) as opened, opened:
        opened.execute("create table probe (number)")
    subprocess.run([sys.executable, "-c", KILLED, str(database)])
    assert (store / "mlflow.db-journal").stat().st_size > 512
    check_tracking(None, "new")
    with contextlib.closing(sqlite3.connect(database)) as opened:
        assert opened.execute("select count(*) from probe").fetchone() == (0,)


def test_a_database_of_another_mlflow_is_a_finding_with_the_command_that_mends_it(store: Path) -> None:
    with contextlib.closing(sqlite3.connect("mlflow.db")) as database, database:
        database.execute("update alembic_version set version_num = '0584bdc529eb'")
    with pytest.raises(ConfigError, match=f"mlflow db upgrade sqlite:///{store}/mlflow.db"):
        check_tracking(None, "lora")


def test_a_deleted_experiment_is_a_finding(store: Path, tracker: Tracker) -> None:
    tracker.client.delete_experiment(tracker.experiment_id)
    with pytest.raises(ConfigError, match=f"mlflow experiments restore -x {tracker.experiment_id}.*--experiment"):
        check_tracking(None, "lora")


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (401, "You are not authenticated. Please see the documentation."),
        (403, '{"error_code": "PERMISSION_DENIED", "message": "Permission denied"}'),
        (403, "<html>Forbidden</html>"),
        (200, "<html>Please sign in</html>"),
    ],
)
def test_a_server_that_asks_who_is_there_is_a_finding(cwd: Path, status: int, body: str) -> None:
    with answer(status, body) as server, pytest.raises(ConfigError, match="MLFLOW_TRACKING_TOKEN"):
        check_tracking(server, "lora")


def test_other_databases_are_asked_too(cwd: Path) -> None:
    with pytest.raises(ConfigError, match="set MLFLOW_TRACKING_URI to another store") as caught:
        check_tracking("mysql+pymysql://u:secret@127.0.0.1:9/a", "lora")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("uri", "what"),
    [
        ("http://someone:secret@127.0.0.1:{port}", "Connection refused -> start the server"),
        ("http://127.0.0.1:99999", "Port out of range"),
        ("http://", "names no host"),
        ("http://[", "Invalid IPv6 URL"),
        ("http://" + "a" * 70, "label empty or too long"),
        (" ", "is blank"),
        ("nope://x", "unsupported URI 'nope://x'"),
        ("mysql+a+b://x", "Invalid database URI: 'mysql+a+b://x'"),
        ("file:a.txt", "a.txt is not a folder"),
        ("./a.txt/below", "a.txt is not a folder"),
        ("sqlite:///a pipe", "is not a file"),
        ("sqlite:///no such folder/a.db", "is not a folder"),
        ("sqlite:///a folder", "is not a file"),
        ("sqlite:///a.txt", "is no sqlite database that can be read"),
    ],
)
def test_stores_that_cannot_be_used_are_findings(cwd: Path, uri: str, what: str) -> None:
    (cwd / "a folder").mkdir()
    os.mkfifo(cwd / "a pipe")
    (cwd / "a.txt").write_text("any words that are no database")
    with pytest.raises(ConfigError) as caught:
        check_tracking(uri.format(port=find_free_port()), "lora")
    found = str(caught.value)
    assert what in found and "MLFLOW_TRACKING_URI" in found and "secret" not in found


def test_a_folder_is_a_store_only_where_mlflow_takes_it(cwd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    switch = pytest.importorskip("mlflow.environment_variables")
    if not hasattr(switch, "MLFLOW_ALLOW_FILE_STORE"):
        pytest.skip("this MLflow takes any folder")
    for name in ("MLFLOW_ALLOW_FILE_STORE", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    remedy = f"MLFLOW_TRACKING_URI=sqlite:///{cwd}/mlflow.db.*MLFLOW_ALLOW_FILE_STORE=true"
    with pytest.raises(ConfigError, match=remedy):
        check_tracking("./mlruns", "lora")
    (cwd / "mlruns" / "0").mkdir(parents=True)
    (cwd / "mlruns" / "0" / "meta.yaml").touch()  # an older MLflow has kept its runs here: it is the default again
    with pytest.raises(ConfigError, match=remedy):
        check_tracking(None, "lora")


def test_an_old_sqlalchemy_could_not_open_a_database_in_a_folder_with_a_question_mark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "why?").mkdir()
    monkeypatch.chdir(tmp_path / "why?")
    check_tracking(None, "lora")
    monkeypatch.setattr("search.plan.mlflow_store.takes_escapes", lambda: False)  # as before SQLAlchemy 2.1
    with pytest.raises(ConfigError, match=r"what follows the \? .* set MLFLOW_TRACKING_URI"):
        check_tracking(None, "lora")
    check_tracking(f"sqlite:///{tmp_path}/team.db", "lora")

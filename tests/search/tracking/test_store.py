"""How MLflow's store is opened, against real sqlite stores."""

import os
import shlex
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mlflow
import mlflow.experiments
import pytest
from click.testing import CliRunner

from search.mlflow_pages.addresses import describe_view
from search.tracking.store import (
    ENVIRONMENT_DEFAULTS,
    ExperimentDeleted,
    find_database,
    find_or_create_experiment,
    make_uri_absolute,
    set_environment_defaults,
    take_turns,
)
from search.tracking.tracker import Tracker

RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
N_AT_ONCE = 4


def test_a_new_store_that_several_open_has_one_experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = f"sqlite:///{tmp_path / 'new.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    barrier = threading.Barrier(N_AT_ONCE)

    def connect(_: int) -> Tracker:
        barrier.wait()
        return Tracker.connect("one")

    with ThreadPoolExecutor(N_AT_ONCE) as pool:
        trackers = list(pool.map(connect, range(N_AT_ONCE)))
    assert len({tracker.experiment_id for tracker in trackers}) == 1
    names = [each.name for each in trackers[0].client.search_experiments()]
    assert sorted(names) == ["Default", "one"]


def test_an_experiment_keeps_its_tags(tracker: Tracker) -> None:
    first = find_or_create_experiment(tracker.client, "mine", {"by": "first"})
    assert find_or_create_experiment(tracker.client, "mine", {"by": "second"}) == first
    found = tracker.client.get_experiment(first)
    assert found.tags["by"] == "first"
    assert found.tags["mlflow.experimentKind"] == "custom_model_development"


def test_a_deleted_experiment_is_an_error_with_the_command_that_restores_it(tracker: Tracker) -> None:
    deleted = find_or_create_experiment(tracker.client, "mine", {})
    tracker.client.delete_experiment(deleted)
    with pytest.raises(ExperimentDeleted) as caught:
        find_or_create_experiment(tracker.client, "mine", {})
    assert caught.value.experiment_id == deleted
    variable, *command = shlex.split(str(caught.value).partition("restore it by ")[2])
    assert command[:2] == ["mlflow", "experiments"]
    done = CliRunner(env=dict([variable.split("=", 1)])).invoke(mlflow.experiments.commands, command[2:])
    assert done.exit_code == 0, done.output
    assert find_or_create_experiment(tracker.client, "mine", {}) == deleted


def test_turns_are_taken_one_at_a_time(tmp_path: Path) -> None:
    inside, most = [], []

    def enter(number: int) -> None:
        with take_turns(f"sqlite:///{tmp_path / 'mlflow.db'}"):
            inside.append(number)
            most.append(len(inside))
            time.sleep(0.001)
            inside.remove(number)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(enter, range(200)))
    assert max(most) == 1 and len(most) == 200
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("uri", ["http://127.0.0.1:9", "sqlite:////no/such/folder/mlflow.db", "sqlite://"])
def test_stores_that_are_no_file_need_no_turns(uri: str) -> None:
    with take_turns(uri), take_turns(uri):
        pass


def test_what_the_user_has_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ENVIRONMENT_DEFAULTS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(RETRIES, "9")
    set_environment_defaults()
    assert {name: os.environ[name] for name in ENVIRONMENT_DEFAULTS} == {**ENVIRONMENT_DEFAULTS, RETRIES: "9"}


@pytest.mark.parametrize(
    ("given", "resolved"),
    [
        ("sqlite:///my.db", "sqlite:///{cwd}/my.db"),
        ("sqlite:////abs/my.db", "sqlite:////abs/my.db"),
        ("sqlite:///:memory:", "sqlite:///:memory:"),
        ("sqlite:///", "sqlite:///"),
        ("sqlite:///{cwd}/%C3%BC%20b/my.db", "sqlite:///{cwd}/ü b/my.db"),  # as MLflow writes its own default
        ("sqlite:///{cwd}/50%25/my.db", "sqlite:///{cwd}/50%/my.db"),
        ("sqlite:///my.db?timeout=5", "sqlite:///{cwd}/my.db?timeout=5"),
        ("http://host:5000", "http://host:5000"),
        ("file:runs", "file://{cwd}/runs"),
        ("file:///abs/runs", "file:///abs/runs"),
        ("./runs", "file://{cwd}/runs"),
        ("databricks", "databricks"),
        ("postgresql://u:p@host/db", "postgresql://u:p@host/db"),
    ],
)
def test_stores_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, resolved: str) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("ü b", "50%", "50%25"):
        (tmp_path / name).mkdir()
    assert make_uri_absolute(given.format(cwd=tmp_path)) == resolved.format(cwd=tmp_path)


@pytest.mark.parametrize("name", ["a b", "why?", "#1", "50%", "50%25", "a%20b"])
def test_the_default_store_lies_in_the_working_directory_whatever_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_store: Path, name: str
) -> None:
    (tmp_path / name).mkdir()
    shutil.copy(empty_store, tmp_path / name / "mlflow.db")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path / name)
    tracker = Tracker.connect("mine")
    assert find_database(tracker.uri) == tmp_path / name / "mlflow.db"
    run_id = tracker.start_run("s", "search")
    monkeypatch.chdir("/")  # the printed command works anywhere
    uri = shlex.split(describe_view(tracker.uri, "")[0])[-1]
    assert mlflow.MlflowClient(uri).get_run(run_id).info.run_name == "s"
    assert list(tmp_path.rglob("*.db")) == [tmp_path / name / "mlflow.db"]

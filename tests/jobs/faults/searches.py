"""Searches as processes of their own, and what they leave, to be compared."""

from __future__ import annotations

import atexit
import base64
import json
import multiprocessing
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
import zlib
from collections import Counter
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import optuna
from mlflow import MlflowClient
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from prepared_workers import instead_of_python, start_server

from search.mlflow_pages.views import VIEW_TAG
from search.study.trial_attributes import RAY_TRIAL_ID, read_curve

LIMIT_S = 900
N_DEMO = 4  # regions of a part in the demo of a pre-flight
# The demo's model on the small data set that lies in each working directory.
DATA = ("--space", "lora.yaml", "--data", "data")
# Three trials, two of them for ASHA to stop, then one of them again with another seed; one at a time.
SMALL = (
    *DATA,
    *("--num-trials", "3", "--max-epochs", "3", "--max-concurrent", "1"),
    *("--confirm", "1", "--confirm-seeds", "1"),
)


_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["tests.jobs.faults.prepared_search"])  # as found from the folder of all tests


class SearchProcess:
    """A search as a process of its own, with the methods of ``subprocess.Popen``."""

    def __init__(self, folder: Path, arguments: tuple[str, ...], environment: dict[str, str], screen: str) -> None:
        given = (start_server(), folder, arguments, environment, screen)
        self._process = _SERVER.Process(target=_run_search, args=given)
        self._process.start()
        self.kill = self._process.kill

    def poll(self) -> int | None:
        """Returns the exit code; None while the search runs."""
        return self._process.exitcode

    def wait(self, limit_s: float = LIMIT_S) -> int:
        """Waits for the end and returns the exit code; raises ``subprocess.TimeoutExpired``."""
        self._process.join(limit_s)
        if (code := self._process.exitcode) is None:
            raise subprocess.TimeoutExpired("search", limit_s)
        return code

    def send_signal(self, number: signal.Signals) -> None:
        """Sends the search a signal."""
        assert self._process.pid is not None
        os.kill(self._process.pid, number)


def _run_search(
    python: str, folder: Path, arguments: tuple[str, ...], environment: dict[str, str], screen: str
) -> None:
    """Does in a forked process what ``python -m search.run`` does in a new one."""
    import search.run

    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    # Where the tests run in the background, interrupts are ignored, which children inherit.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    log = os.open(screen, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(log, stream)
    sys.argv = [str(search.run.__file__), *arguments]
    with instead_of_python(python):
        code = search.run.main(list(arguments))
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def start_search(folder: Path, *arguments: str, tracking_uri: str = "", screen: str = "screen.log") -> SearchProcess:
    """Starts a search in a folder; its screen goes to a file there, after what that holds.

    Args:
        folder: Its working directory.
        arguments: Of ``python -m search.run``.
        tracking_uri: MLflow's store; empty for the default in the folder.
        screen: The file's name, for searches that run at once in one folder.
    """
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    if tracking_uri:
        environment["MLFLOW_TRACKING_URI"] = tracking_uri
    return SearchProcess(folder, arguments, environment, screen)


def start_check(folder: Path) -> BaseProcess:
    """Starts a pre-flight of a search on the demo in a folder, where the demo has four regions a part."""
    process: BaseProcess = _SERVER.Process(target=_run_check, args=(folder,))
    process.start()
    return process


def _run_check(folder: Path) -> None:
    import search.check
    import trainables.demo.tissue

    os.chdir(folder)
    trainables.demo.tissue.DEMO_COUNTS = dict.fromkeys(trainables.demo.tissue.DEMO_COUNTS, N_DEMO)
    sys.exit(search.check.main(["--space", "lora.yaml"]))


def read_screen(folder: Path, screen: str = "screen.log") -> str:
    """Returns everything that the folder's searches have printed to one file."""
    path = folder / screen
    return path.read_text() if path.is_file() else ""


def find_free_port() -> int:
    """Returns a port of 127.0.0.1 below those that the system hands out, so that it stays free for a while."""
    for port in random.sample(range(20_000, 32_000), 50):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no free port")


def fill(disk: Path) -> Path:
    """Fills what is left of a file system with one file, and returns it."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 65536)
        except OSError:
            return filler


def read_study(run: Path) -> list[optuna.trial.FrozenTrial]:
    """Returns the study's trials in their order."""
    storage = JournalStorage(JournalFileBackend(str(run / "study.journal")))
    (name,) = (study.study_name for study in storage.get_all_studies())
    return optuna.load_study(study_name=name, storage=storage).trials


def count_rows(run: Path) -> int:
    """Returns how many epochs the search's trials have reported so far."""
    return sum(path.read_text().count("\n") for path in run.glob("trials/*/result.json"))


def wait_for_rows(folder: Path, process: SearchProcess, rows: int) -> None:
    """Waits until the trials of the search ``job`` have reported so many epochs."""
    end = time.monotonic() + LIMIT_S
    while count_rows(folder / "runs" / "job") < rows:
        assert process.poll() is None, read_screen(folder)
        assert time.monotonic() < end, read_screen(folder)
        time.sleep(0.1)


def describe_pages(client: MlflowClient, experiment: str, parent: str) -> dict[str, Any]:
    """Returns what a reader sees of a search in MLflow: names, notes, data sets, tables, views and model versions."""
    runs = client.search_runs([experiment], f"tags.search_run = '{parent}'")
    (own,) = (each for each in runs if each.info.run_id == parent)
    tags = client.get_experiment(experiment).tags
    versions = [
        version for version in client.search_model_versions() if version.run_id in {each.info.run_id for each in runs}
    ]
    return {
        "names": sorted(str(each.info.run_name) for each in runs),
        "data sets": Counter(
            (each.data.tags["run_kind"], *(used.dataset.name for used in each.inputs.dataset_inputs)) for each in runs
        ),
        "stopped": Counter(each.data.tags.get("stopped", "") for each in runs),
        "note": re.sub(r"trial [0-9a-f]{8}", "trial", own.data.tags["mlflow.note.content"]),  # Ray draws the id
        "tables": own.data.tags["mlflow.loggedArtifacts"],
        "artifacts": sorted(item.path for item in client.list_artifacts(parent) if item.path != "images"),
        "overlays": len({item.path.partition("+timestamp")[0] for item in client.list_artifacts(parent, "images")}),
        "views": [
            _unpack_view(value)["orderByKey"]
            for key, value in tags.items()
            if key.startswith(VIEW_TAG) and parent in key
        ],
        "versions": len(versions),
    }


def _unpack_view(value: str) -> Any:
    """Returns the state of a saved view, as MLflow's page reads it."""
    return json.loads(zlib.decompress(base64.b64decode(json.loads(value)["state"].removeprefix("deflate;"))))


def describe_search(folder: Path, name: str) -> dict[str, Any]:
    """Returns all that must not depend on stops: trials, curves, MLflow's runs and histories, the outcome."""
    run = folder / "runs" / name
    trials = read_study(run)
    numbers = {trial.user_attrs[RAY_TRIAL_ID]: trial.number for trial in trials}
    client = MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")
    parent = json.loads((run / "search.json").read_text())["parent_run_id"]
    experiment = client.get_run(parent).info.experiment_id
    runs = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{parent}'")
    searches = client.search_runs([experiment], f"tags.run_kind = 'search' and attributes.run_name = '{name}'")
    assert [each.info.run_id for each in searches] == [parent], "a search has two runs"
    histories = {}
    for each in runs:
        number = numbers.get(each.data.tags.get("ray_trial_id", ""))
        if number is not None:
            found = client.get_metric_history(each.info.run_id, "val_dice")
            assert number not in histories, "a trial has two runs"
            histories[number] = sorted((entry.step, entry.value) for entry in found)
    summary = json.loads((run / "summary.json").read_text())
    pages = describe_pages(client, experiment, parent)
    assert len(pages["names"]) == len(set(pages["names"])), "two runs have one name"
    return {
        "pages": pages,
        "states": {trial.number: trial.state.name for trial in trials},
        "params": {trial.number: trial.params for trial in trials},
        "curves": {trial.number: read_curve(trial) for trial in trials},
        "kinds": Counter(each.data.tags["run_kind"] for each in runs),
        "statuses": Counter(each.info.status for each in runs),
        "parent": client.get_run(parent).info.status,
        "settings": client.get_run(parent).data.params,
        "histories": histories,
        "winner": numbers[summary["best_trial"]],
        "outcome": {
            name: summary[name]
            for name in ("best_params", "best_epoch", "best_seed", "best_scale", "val_dice", "test_dice")
        },
        "openings": len(json.loads((run / "test_openings.json").read_text())),
        "trials": summary["trials"],
    }

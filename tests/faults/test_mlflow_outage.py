"""An MLflow server that is not there, or dies in mid-search: what reaches it in the end, and what the user is told."""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from search.errors import SearchError
from search.mlflow_limits import fit_params
from search.quiet import silence_telemetry
from search.record import SearchRecord, make_study_file
from search.results import read_trials
from search.sampler import RAY_TRIAL_ID
from search.tracking import Tracker

pytestmark = pytest.mark.slow

NUM_TRIALS, MAX_EPOCHS = 4, 3
N_WAITING = 3  # records in the outbox before the server comes back
SERVER_START_S, JOB_S = 120.0, 900.0


def find_free_port() -> int:
    """Returns a port of 127.0.0.1 below those that the system and Ray hand out, so that it stays free a while."""
    for port in random.sample(range(20_000, 32_000), 50):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no free port")


def wait_until(happened: Callable[[], bool], timeout_s: float, what: str) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not happened():
        assert time.monotonic() < deadline_s, f"waited {timeout_s:.0f} s in vain: {what}"
        time.sleep(0.2)


class Server:
    """`mlflow server` on loopback, to be killed and started again on the same port and database."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self._port = find_free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        silence_telemetry()
        store = ["--backend-store-uri", f"sqlite:///{self._folder / 'mlflow.db'}"]
        store += ["--artifacts-destination", str(self._folder / "artifacts")]
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self._port)]
                + ["--workers", "1", *store],
                cwd=self._folder,
                env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # the server and its worker can be killed together
            )
        wait_until(self._answers, SERVER_START_S, f"mlflow server to start, see {self._folder / 'server.log'}")

    def kill(self) -> None:
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        assert self._process is not None and self._process.poll() is None, "mlflow server ended"
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=5)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def read_runs(self, experiment: str = "lora") -> list[Any]:
        """Returns the runs of the experiment that are not deleted, by MLflow's own client."""
        from mlflow import MlflowClient

        client = MlflowClient(tracking_uri=self.uri)
        found = client.get_experiment_by_name(experiment)
        return [] if found is None else list(client.search_runs([found.experiment_id]))

    def read_history(self, run_id: str, metric: str) -> list[tuple[int, float]]:
        from mlflow import MlflowClient

        points = MlflowClient(tracking_uri=self.uri).get_metric_history(run_id, metric)
        return sorted((point.step, point.value) for point in points)


class Job:
    """The main job on the demo, in a process of its own, while it runs and when it has ended."""

    def __init__(self, folder: Path, tracking_uri: str, num_trials: int, max_epochs: int) -> None:
        self.run = folder / "runs" / "job"
        self._screen = folder / "screen.txt"
        options = ["--num-trials", str(num_trials), "--max-epochs", str(max_epochs), "--confirm", "0"]
        options += ["--seed", "0", "--max-concurrent", "1", "--name", "job"]
        with self._screen.open("wb") as screen:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "search.run", "--space", "lora.yaml", *options],
                cwd=folder,
                env={**os.environ, "MLFLOW_TRACKING_URI": tracking_uri},
                stdout=screen,
                stderr=subprocess.STDOUT,
            )

    @property
    def outbox(self) -> Path:
        return self.run / "mlflow_outbox.jsonl"

    @property
    def screen(self) -> str:
        return self._screen.read_text()

    @property
    def trials(self) -> set[str]:
        """Ray's ids of the trials in the study."""
        study = read_trials(make_study_file(self.run, SearchRecord.read(self.run)))
        return {str(trial.user_attrs[RAY_TRIAL_ID]) for trial in study}

    def count_waiting(self) -> int:
        return len(self.outbox.read_text().splitlines()) if self.outbox.exists() else 0

    def runs_still(self) -> bool:
        return self._process.poll() is None

    def wait(self) -> int:
        return self._process.wait(JOB_S)

    def read_epochs(self, trial_id: str) -> list[tuple[int, float]]:
        """Returns epoch and validation Dice as Ray wrote them down on disk."""
        lines = (self.run / "trials" / f"trial-{trial_id}" / "result.json").read_text().splitlines()
        results = [json.loads(line) for line in lines]
        return [(result["training_iteration"], result["val_dice"]) for result in results]

    def read_params(self, trial_id: str) -> dict[str, str]:
        path = self.run / "trials" / f"trial-{trial_id}" / "params.json"
        return fit_params(json.loads(path.read_text()))

    def end(self) -> None:
        """Ends the job as a user would, and where that takes too long by force; Ray's processes end with it."""
        if self.runs_still():
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(60)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


def is_epoch_there(server: Server) -> bool:
    return any("val_dice" in run.data.metrics for run in server.read_runs() if run.data.tags["run_kind"] == "trial")


def outlive_server(folder: Path, server: Server, does_return: bool) -> Job:
    """Kills the server after the first epoch that reached it; returns the job when it has ended."""
    server.start()
    job = Job(folder, server.uri, NUM_TRIALS, MAX_EPOCHS)
    try:
        wait_until(lambda: is_epoch_there(server) or not job.runs_still(), JOB_S, "an epoch to reach MLflow")
        assert job.runs_still(), job.screen
        server.kill()
        wait_until(lambda: job.count_waiting() >= N_WAITING, JOB_S, "records to wait in the outbox")
        assert job.runs_still(), job.screen
        if does_return:
            server.start()
        job.wait()
    finally:
        job.end()
    return job


@pytest.fixture
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves MLflow's patience to the tracker."""
    for name in [name for name in os.environ if name.startswith("MLFLOW_HTTP_REQUEST")]:
        monkeypatch.delenv(name)


class TestAtTheStart:
    """Nothing listens, or nothing answers: the search does not begin."""

    def test_a_search_without_its_store_ends_at_once_and_leaves_nothing(self, tmp_path: Path) -> None:
        uri = f"http://someone:secret@127.0.0.1:{find_free_port()}"
        job = Job(tmp_path, uri, num_trials=1, max_epochs=1)
        try:
            assert job.wait() == 1, job.screen
        finally:
            job.end()
        told = [line for line in job.screen.splitlines() if line.startswith("error: ")]
        assert len(told) == 1 and job.screen.endswith(told[0] + "\n"), job.screen
        assert uri.replace("secret", "***") in told[0] and "MLFLOW_TRACKING_URI" in told[0]
        assert "secret" not in job.screen and "Traceback" not in job.screen
        assert not list((tmp_path / "runs").glob("[!.]*"))

    @pytest.mark.parametrize("accepts", [False, True], ids=["refused", "silent"])
    def test_connecting_is_given_up_in_15_s(
        self, accepts: bool, own_environment: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            if accepts:
                silent.listen()
            port = silent.getsockname()[1]
            monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
            began_s = time.monotonic()
            with pytest.raises(SearchError, match=rf"^MLflow's store http://127\.0\.0\.1:{port} cannot be used: .+"):
                Tracker.connect("lora")
            assert time.monotonic() - began_s < 15


@dataclass(frozen=True)
class Outage:
    """A job whose server died under it, when the job has ended."""

    job: Job
    server: Server
    code: int


@pytest.fixture(scope="module")
def passed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outage]:
    """The server was killed in mid-search and came back before the search's end."""
    folder = tmp_path_factory.mktemp("passed")
    server = Server(folder / "server")
    try:
        job = outlive_server(folder, server, does_return=True)
        yield Outage(job, server, job.wait())
    finally:
        server.kill()


class TestAnOutageThatPasses:
    """Whatever the search wrote while the server was dead stands in the store in the end, once."""

    def test_the_search_ends_well(self, passed: Outage) -> None:
        assert passed.code == 0, passed.job.screen
        assert "out of reach" in passed.job.screen
        assert "Traceback" not in passed.job.screen

    def test_every_trial_has_one_run(self, passed: Outage) -> None:
        runs = [run for run in passed.server.read_runs() if run.data.tags["run_kind"] == "trial"]
        assert sorted(run.data.tags["ray_trial_id"] for run in runs) == sorted(passed.job.trials)
        assert len(runs) == NUM_TRIALS

    def test_runs_hold_the_epochs_on_disk_once_each(self, passed: Outage) -> None:
        for run in passed.server.read_runs():
            if run.data.tags["run_kind"] == "trial":
                epochs = passed.job.read_epochs(run.data.tags["ray_trial_id"])
                assert [epoch for epoch, _ in epochs] == list(range(1, len(epochs) + 1))
                assert passed.server.read_history(run.info.run_id, "val_dice") == epochs

    def test_runs_hold_their_parameters_and_have_ended(self, passed: Outage) -> None:
        for run in passed.server.read_runs():
            assert run.info.status == "FINISHED", run.data.tags
            if run.data.tags["run_kind"] == "trial":
                assert run.data.params == passed.job.read_params(run.data.tags["ray_trial_id"])

    def test_the_parent_run_counts_the_trials_and_has_ended(self, passed: Outage) -> None:
        parents = [run for run in passed.server.read_runs() if run.data.tags["run_kind"] == "search"]
        assert [run.info.run_id for run in parents] == [SearchRecord.read(passed.job.run).parent_run_id]
        assert parents[0].info.status == "FINISHED"
        ended = passed.server.read_history(parents[0].info.run_id, "trials_ended")
        assert ended == [(number, number) for number in range(1, NUM_TRIALS + 1)]

    def test_nothing_waits_and_nothing_was_refused(self, passed: Outage) -> None:
        assert passed.job.outbox.read_bytes() == b""
        assert not list(passed.job.run.glob("*.rejected.jsonl"))


@pytest.fixture(scope="module")
def stayed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outage]:
    """The server was killed in mid-search and stayed away until the search had ended."""
    folder = tmp_path_factory.mktemp("stayed")
    server = Server(folder / "server")
    try:
        job = outlive_server(folder, server, does_return=False)
        yield Outage(job, server, job.wait())
    finally:
        server.kill()


class TestAnOutageThatStays:
    """The search keeps its result, and what did not reach MLflow waits on disk."""

    def test_the_search_ends_with_its_result(self, stayed: Outage) -> None:
        assert stayed.code == 0, stayed.job.screen
        assert "Traceback" not in stayed.job.screen
        assert (stayed.job.run / "summary.json").is_file() and (stayed.job.run / "export" / "sam2.pt").is_file()

    def test_the_screen_says_how_many_records_wait_and_where(self, stayed: Outage) -> None:
        told = [line for line in stayed.job.screen.splitlines() if line.startswith("MLflow could not be reached: ")]
        assert told, stayed.job.screen
        assert f"{stayed.job.count_waiting()} records wait in {stayed.job.run}" in told[0]

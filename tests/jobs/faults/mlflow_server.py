"""`mlflow server` on loopback, to be killed and started again on the same port and database."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from searches import find_free_port

SERVER_START_S = 120.0


def wait_until(happened: Callable[[], bool], timeout_s: float, what: str) -> None:
    """Waits for something; fails after `timeout_s` seconds."""
    deadline_s = time.monotonic() + timeout_s
    while not happened():
        assert time.monotonic() < deadline_s, f"waited {timeout_s:.0f} s in vain for {what}"
        time.sleep(0.2)


class MlflowServer:
    """Serves the database `mlflow.db` of a folder, and MLflow's UI."""

    def __init__(self, folder: Path) -> None:
        self.port = find_free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self._folder = folder
        self._log = folder / "server.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        where = ["--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        store = ["--backend-store-uri", f"sqlite:///{self._folder / 'mlflow.db'}"]
        store += ["--artifacts-destination", str(self._folder / "artifacts")]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", *where, *store],
                cwd=self._folder,
                env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},  # seven processes that nobody asks
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # the server and its worker are killed together
            )
        wait_until(self._answers, SERVER_START_S, f"mlflow server; see {self._log}")

    def kill(self) -> None:
        """Kills the server, where it runs, and its worker."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        assert self._process is not None and self._process.poll() is None, self._log.read_text()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(tracking_uri=self.uri)

    def read_runs(self, kind: str | None = None) -> list[Any]:
        """Returns the runs of experiment `lora` that are not deleted."""
        experiment = self.client.get_experiment_by_name("lora")
        runs = [] if experiment is None else self.client.search_runs([experiment.experiment_id])
        return [run for run in runs if kind is None or run.data.tags["run_kind"] == kind]

    def read_history(self, run: Any, metric: str) -> list[tuple[int, float]]:
        """Returns steps and values as they are in the store, doubles and all."""
        return sorted((point.step, point.value) for point in self.client.get_metric_history(run.info.run_id, metric))

    def list_artifacts(self, run: Any) -> set[str]:
        return {item.path for item in self.client.list_artifacts(run.info.run_id)}

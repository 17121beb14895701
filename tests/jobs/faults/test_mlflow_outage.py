"""An MLflow server that is not there, dies in mid-search or loses an answer: what reaches it, what the user reads."""

from __future__ import annotations

import http.client
import http.server
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from mlflow_server import MlflowServer, wait_until
from searches import DATA, find_free_port, read_screen, read_study, start_search

from search.errors import SearchError
from search.study.trial_attributes import RAY_TRIAL_ID
from search.tracking.limits import fit_params
from search.tracking.tracker import Tracker
from trainables.adapters.scales import SCALES

pytestmark = pytest.mark.slow

MAX_EPOCHS = 3
N_WAITING = 3  # records in the outbox before the server comes back
JOB_S = 900.0
OUTBOXES = ("mlflow_outbox.jsonl", "mlflow_closing.jsonl")


def make_server(folder: Path, empty_store: Path | None = None) -> MlflowServer:
    """Returns a server, not started, with a new folder of its own."""
    folder.mkdir()
    if empty_store is not None:
        shutil.copy(empty_store, folder / "mlflow.db")
    return MlflowServer(folder)


class Job:
    """The main job in a process of its own, and what it leaves on disk."""

    def __init__(self, folder: Path, tracking_uri: str, *options: str) -> None:
        self.run = folder / "runs" / "job"
        self._folder = folder
        self._n_printed_before = len(read_screen(folder))
        self._process = start_search(folder, *options, tracking_uri=tracking_uri)

    @staticmethod
    def begin(folder: Path, tracking_uri: str, num_trials: int, max_epochs: int = MAX_EPOCHS) -> Job:
        """Starts a new search, one trial at a time."""
        options = [*DATA, "--num-trials", str(num_trials), "--max-epochs", str(max_epochs)]
        options += ["--confirm", "0", "--seed", "0", "--max-concurrent", "1", "--name", "job"]
        return Job(folder, tracking_uri, *options)

    @property
    def screen(self) -> str:
        return read_screen(self._folder)[self._n_printed_before :]

    @property
    def trial_ids(self) -> list[str]:
        """Ray's ids of the trials in the study."""
        return [str(trial.user_attrs[RAY_TRIAL_ID]) for trial in read_study(self.run)]

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def count_waiting(self) -> int:
        """Returns how many records wait on disk."""
        paths = [self.run / name for name in OUTBOXES]
        return sum(len(path.read_text().splitlines()) for path in paths if path.is_file())

    def read_epochs(self, trial_id: str) -> list[tuple[int, float]]:
        """Returns epoch and validation Dice of each line that a trial has on disk."""
        results = [json.loads(line) for line in (self._locate(trial_id) / "result.json").read_text().splitlines()]
        return [(result["training_iteration"], result["val_dice"]) for result in results]

    def read_params(self, trial_id: str) -> dict[str, str]:
        return fit_params(json.loads((self._locate(trial_id) / "params.json").read_text()))

    def wait(self) -> int:
        return self._process.wait(JOB_S)

    def end(self) -> None:
        """Ends the job, where it runs, as a user would, else by force; Ray's processes end with it."""
        if self.is_running:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(60)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def _locate(self, trial_id: str) -> Path:
        return self.run / "trials" / f"trial-{trial_id}"


@dataclass(frozen=True)
class Outcome:
    """How a job ended whose server died under it.

    Attributes:
        job: What it left on disk.
        server: The server, perhaps dead.
        code: The job's exit code.
        waiting: How many records waited on disk when it had ended.
    """

    job: Job
    server: MlflowServer
    code: int
    waiting: int


def has_search(server: MlflowServer) -> bool:
    return bool(server.read_runs("search"))


def has_epoch(server: MlflowServer) -> bool:
    return any("val_dice" in run.data.metrics for run in server.read_runs("trial"))


def finish(job: Job, server: MlflowServer) -> Outcome:
    """Waits for the job's end."""
    try:
        code = job.wait()
        return Outcome(job, server, code, job.count_waiting())
    finally:
        job.end()


def lose_server(folder: Path, server: MlflowServer, num_trials: int, last_words: Callable[[MlflowServer], bool]) -> Job:
    """Kills the server as soon as it knows of something; returns the job when records wait."""
    server.start()
    job = Job.begin(folder, server.uri, num_trials)

    def has_last_words() -> bool:
        assert job.is_running, job.screen
        return last_words(server)

    def has_records_waiting() -> bool:
        assert job.is_running, job.screen
        return job.count_waiting() >= N_WAITING

    try:
        wait_until(has_last_words, JOB_S, "the search in MLflow")
        server.kill()
        wait_until(has_records_waiting, JOB_S, "records in the outbox")
    except BaseException:
        job.end()
        raise
    return job


@pytest.fixture(scope="module")
def passed(make_work_folder: Callable[[str], Path], empty_store: Path) -> Iterator[Outcome]:
    """A search whose server was killed after an epoch that reached it, and came back before the end."""
    folder = make_work_folder("passed")
    server = make_server(folder / "server", empty_store)
    try:
        job = lose_server(folder, server, 4, has_epoch)
        try:
            server.start()
        except BaseException:
            job.end()
            raise
        yield finish(job, server)
    finally:
        server.kill()


@pytest.fixture(scope="module")
def stayed(make_work_folder: Callable[[str], Path], empty_store: Path) -> Iterator[Outcome]:
    """A search whose server was killed as soon as it knew of it, and stayed away until the search had ended."""
    folder = make_work_folder("stayed")
    server = make_server(folder / "server", empty_store)
    try:
        yield finish(lose_server(folder, server, 2, has_search), server)
    finally:
        server.kill()


@pytest.fixture(scope="module")
def summary_before(stayed: Outcome) -> str:
    """The summary of that search."""
    return (stayed.job.run / "summary.json").read_text()


@pytest.fixture(scope="module")
def resumed(stayed: Outcome, summary_before: str) -> Outcome:
    """The same search, resumed after its end, with the server there again."""
    stayed.server.start()
    return finish(Job(stayed.job.run.parents[1], stayed.server.uri, "--resume", "job"), stayed.server)


@pytest.fixture(params=["passed", "resumed"])
def delivered(request: pytest.FixtureRequest) -> Outcome:
    """A search whose records must all have reached the store in the end."""
    outcome: Outcome = request.getfixturevalue(request.param)
    return outcome


class TestAtTheStart:
    """Nothing listens, or nothing answers: the search does not begin."""

    def test_a_search_without_its_store_ends_and_leaves_nothing(self, work_folder: Path) -> None:
        place = f"127.0.0.1:{find_free_port()}"
        job = Job.begin(work_folder, f"http://someone:secret@{place}", num_trials=1, max_epochs=1)
        assert finish(job, make_server(work_folder / "none")).code == 2, job.screen
        _, _, finding = job.screen.partition("error: 1 problem; nothing was started\n")
        assert finding.startswith(f"  MLFLOW_TRACKING_URI http://someone:***@{place}\n")
        assert "Connection refused -> start the server" in " ".join(finding.split())
        assert "secret" not in job.screen and "Traceback" not in job.screen
        assert not list((work_folder / "runs").glob("[!.]*"))

    @pytest.mark.parametrize("listens", [False, True], ids=["refused", "silent"])
    def test_connecting_is_given_up_within_15_s(self, listens: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in [name for name in os.environ if name.startswith("MLFLOW_HTTP_REQUEST")]:
            monkeypatch.delenv(name)  # patience is left to the tracker
        with socket.socket() as place:
            place.bind(("127.0.0.1", 0))
            if listens:
                place.listen()
            uri = f"http://127.0.0.1:{place.getsockname()[1]}"
            monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
            began_s = time.monotonic()
            with pytest.raises(SearchError, match=f"^MLflow's store {uri} cannot be used: "):
                Tracker.connect("lora")
            assert time.monotonic() - began_s < 15


class LossyRelay(http.server.ThreadingHTTPServer):
    """Hands requests on to a server, and loses its answer to the first one whose path ends with `lost`."""

    daemon_threads = True

    def __init__(self, server_port: int, lost: str) -> None:
        super().__init__(("127.0.0.1", 0), RelayHandler)
        self.uri = f"http://127.0.0.1:{self.server_port}"
        self.target_port, self.lost, self.n_lost = server_port, lost, 0
        threading.Thread(target=self.serve_forever, daemon=True).start()


class RelayHandler(http.server.BaseHTTPRequestHandler):
    """One connection of a client to the relay."""

    server: LossyRelay
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._relay()

    def do_POST(self) -> None:
        self._relay()

    def _relay(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        onward = http.client.HTTPConnection("127.0.0.1", self.server.target_port)
        onward.request(self.command, self.path, body, {"Content-Type": "application/json"})
        answer = onward.getresponse()
        content = answer.read()
        onward.close()
        if self.path.endswith(self.server.lost) and not self.server.n_lost:
            self.server.n_lost += 1
            self.close_connection = True
            return
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.headers["Content-Type"])
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Keeps the requests off the screen."""


class TestALostAnswer:
    """The store did what it was asked and could not say so: nothing is done twice."""

    def test_a_run_is_opened_once(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        server = make_server(tmp_path / "server")
        try:
            server.start()
            with LossyRelay(server.port, "/runs/create") as relay:
                monkeypatch.setenv("MLFLOW_TRACKING_URI", relay.uri)
                run_id = Tracker.connect("lora").start_child("parent", "trial-a1", "trial", {"ray_trial_id": "a1"})
                assert relay.n_lost == 1
                relay.shutdown()
            assert [run.info.run_id for run in server.read_runs()] == [run_id]
        finally:
            server.kill()


class TestAnOutageThatPasses:
    """The search goes on meanwhile, and says so."""

    def test_the_search_ends_well(self, passed: Outcome) -> None:
        assert passed.code == 0, passed.job.screen
        assert "MLflow is out of reach" in passed.job.screen
        assert "Traceback" not in passed.job.screen


class TestAnOutageThatStays:
    """The search keeps its result, and what did not reach MLflow waits on disk."""

    def test_the_search_ends_with_its_result(self, stayed: Outcome) -> None:
        assert stayed.code == 0, stayed.job.screen
        assert "Traceback" not in stayed.job.screen
        assert (stayed.job.run / "summary.json").is_file() and (stayed.job.run / "export" / "sam2.pt").is_file()

    def test_the_screen_says_how_many_records_wait_where_and_what_delivers_them(self, stayed: Outcome) -> None:
        assert stayed.waiting > N_WAITING
        line = f"{stayed.waiting} records wait for MLflow in {stayed.job.run}"
        assert line in stayed.job.screen
        assert f"--resume {stayed.job.run}" in stayed.job.screen

    def test_a_resume_ends_well_and_does_nothing_else_again(self, resumed: Outcome, summary_before: str) -> None:
        assert resumed.code == 0, resumed.job.screen
        assert "records wait for MLflow" not in resumed.job.screen
        assert (resumed.job.run / "summary.json").read_text() == summary_before
        assert sorted(path.name for path in resumed.job.run.glob("export*")) == ["export"]


class TestWhatReachesTheStore:
    """Whatever the search wrote while the server was dead stands in the store in the end, once."""

    def test_every_trial_has_one_run(self, delivered: Outcome) -> None:
        found = [run.data.tags["ray_trial_id"] for run in delivered.server.read_runs("trial")]
        assert sorted(found) == sorted(delivered.job.trial_ids)

    def test_runs_hold_the_epochs_on_disk_once_each(self, delivered: Outcome) -> None:
        for run in delivered.server.read_runs("trial"):
            epochs = delivered.job.read_epochs(run.data.tags["ray_trial_id"])
            assert [epoch for epoch, _ in epochs] == list(range(1, len(epochs) + 1)) and epochs
            assert delivered.server.read_history(run, "val_dice") == epochs

    def test_runs_hold_their_parameters(self, delivered: Outcome) -> None:
        for run in delivered.server.read_runs("trial"):
            assert run.data.params == delivered.job.read_params(run.data.tags["ray_trial_id"])

    def test_all_runs_have_ended(self, delivered: Outcome) -> None:
        runs = delivered.server.read_runs()
        assert {run.info.status for run in runs} == {"FINISHED"}
        assert len(runs) == len(delivered.job.trial_ids) + 3  # the search, its bar and the recorded one

    def test_the_parent_run_counts_each_trial_once(self, delivered: Outcome) -> None:
        (parent,) = delivered.server.read_runs("search")
        numbers = range(1, len(delivered.job.trial_ids) + 1)
        assert delivered.server.read_history(parent, "trials_ended") == [(number, number) for number in numbers]

    def test_the_search_has_its_parameters_and_its_bars(self, delivered: Outcome) -> None:
        (parent,), (measured,) = (delivered.server.read_runs(kind) for kind in ("search", "zeroshot"))
        assert parent.data.params["max_epochs"] == str(MAX_EPOCHS)
        summary = json.loads((delivered.job.run / "summary.json").read_text())
        dice = summary["zeroshot_val_dice"]
        assert delivered.server.read_history(measured, "val_dice") == [(0, dice), (MAX_EPOCHS, dice)]
        assert len(delivered.server.read_runs("recorded")) == 1
        assert delivered.server.client.get_experiment_by_name("recorded") is not None

    def test_each_scale_stands_once(self, delivered: Outcome) -> None:
        (parent,) = delivered.server.read_runs("search")
        steps = [step for step, _ in delivered.server.read_history(parent, "val_dice_by_scale_percent")]
        assert steps == [round(100 * scale) for scale in sorted(SCALES)]

    def test_the_end_of_the_search_is_there(self, delivered: Outcome) -> None:
        summary = json.loads((delivered.job.run / "summary.json").read_text())
        (parent,) = delivered.server.read_runs("search")
        assert parent.data.tags["verdict"] == summary["verdict"]
        assert parent.data.metrics["test_dice"] == summary["test_dice"]
        files = {"summary.json", "scores_test.csv", "report.html", "verdict.txt", "overlays", "search.json"}
        assert files <= delivered.server.list_artifacts(parent)
        (winner,) = [run for run in delivered.server.read_runs("trial") if run.data.tags.get("winner") == "yes"]
        assert winner.data.tags["ray_trial_id"] == summary["best_trial"]
        assert {"export", "overlays"} <= delivered.server.list_artifacts(winner)

    def test_nothing_waits_and_nothing_was_refused(self, delivered: Outcome) -> None:
        assert delivered.waiting == 0
        assert not list(delivered.job.run.glob("*.rejected.jsonl"))

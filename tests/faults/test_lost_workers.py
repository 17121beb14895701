"""Workers and nodes that die take no trial with them, or one with its reason; the search goes on."""

from __future__ import annotations

import contextlib
import random
import subprocess
import time
from pathlib import Path

import psutil
import pytest
from ray.cluster_utils import Cluster
from searches import LIMIT_S, SMALL, count_rows, describe_search, read_screen, read_study, start_search, wait_for_rows

from search.failures import MAX_RETRIES
from search.sampler import REASON

pytestmark = pytest.mark.slow


def find_trainer(process: subprocess.Popen[str], title: str) -> psutil.Process | None:
    """Returns a search's worker whose title, as Ray gives it, begins so."""
    for child in psutil.Process(process.pid).children(recursive=True):
        try:
            if child.cmdline() and child.cmdline()[0].startswith(title):
                return child
        except psutil.Error:
            continue
    return None


def kill_trainer(folder: Path, process: subprocess.Popen[str], title: str = "ray::SAM2Trainable") -> None:
    """Waits for a worker that trains, or is about to, and kills it, as the system does when memory runs out."""
    end = time.monotonic() + LIMIT_S
    while (worker := find_trainer(process, title)) is None:
        assert process.poll() is None and time.monotonic() < end, read_screen(folder)
        time.sleep(0.02)
    worker.kill()
    with contextlib.suppress(psutil.Error):  # it is gone
        while worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.02)


def test_killed_workers_leave_no_trace(undisturbed: Path, tmp_path: Path) -> None:
    draw = random.Random(3)
    process = start_search(tmp_path, *SMALL, "--name", "job")
    for rows in (1, 2):  # twice the first trial's worker, in the middle of an epoch or of a checkpoint
        wait_for_rows(tmp_path, process, rows)
        time.sleep(draw.uniform(0, 0.8))
        kill_trainer(tmp_path, process)
    assert process.wait(LIMIT_S) == 0, read_screen(tmp_path)
    assert describe_search(tmp_path, "job") == describe_search(undisturbed, "job")


def test_a_worker_that_always_dies_fails_its_trial_alone(tmp_path: Path) -> None:
    process = start_search(tmp_path, *SMALL, "--name", "job")
    for _ in range(1 + MAX_RETRIES):  # in an epoch: Ray itself replaces, uncounted, a worker that dies while it starts
        kill_trainer(tmp_path, process, "ray::SAM2Trainable.train")
    assert process.wait(LIMIT_S) == 0, read_screen(tmp_path)
    trials = read_study(tmp_path / "runs" / "job")
    assert [trial.state.name for trial in trials].count("FAIL") == 1 and trials[0].state.name == "FAIL"
    assert "its worker died" in trials[0].user_attrs[REASON]
    screen = read_screen(tmp_path)
    assert screen.count("trial   0 is tried again: its worker died") == MAX_RETRIES
    assert screen.count("trial   0 failed: its worker died") == 1
    found = describe_search(tmp_path, "job")
    assert (found["statuses"]["FAILED"], found["parent"]) == (1, "FINISHED")


def test_a_lost_node_hands_its_trials_to_the_others(tmp_path: Path) -> None:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
        options = ("--space", "lora.yaml", "--num-trials", "4", "--max-epochs", "3", "--confirm", "0")
        address = ("--address", cluster.address)
        refused = start_search(tmp_path, *options, *address, "--name", "job")
        assert refused.wait(LIMIT_S) == 2
        assert "--storage" in read_screen(tmp_path)
        storage = str(tmp_path / "shared" / ".." / "runs")
        process = start_search(tmp_path, *options, *address, "--name", "job", "--storage", storage)
        wait_for_rows(tmp_path, process, 2)
        cluster.remove_node(nodes[0], allow_graceful=False)
        assert process.wait(LIMIT_S) == 0, read_screen(tmp_path)
    finally:
        cluster.shutdown()
    trials = read_study(tmp_path / "runs" / "job")
    assert len(trials) == 4
    assert {trial.state.name for trial in trials} <= {"COMPLETE", "PRUNED"}
    assert count_rows(tmp_path / "runs" / "job") >= sum(len(trial.intermediate_values) for trial in trials)
    assert describe_search(tmp_path, "job")["parent"] == "FINISHED"

"""Workers and nodes that die take no trial with them, or one with its reason; the search goes on."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from pathlib import Path

import pytest
from prepared_workers import instead_of_python, start_server
from ray.cluster_utils import Cluster
from searches import (
    DATA,
    LIMIT_S,
    SMALL,
    SearchProcess,
    count_rows,
    describe_search,
    read_screen,
    read_study,
    start_search,
    wait_for_rows,
)

from search.cluster.failures import MAX_RETRIES
from search.study.trial_attributes import REASON

pytestmark = pytest.mark.slow


def kill_trainer(folder: Path, process: SearchProcess, dead: set[int], delay_s: float = 0.0) -> None:
    """Kills the worker that has reported an epoch last, as the system does when memory runs out.

    Args:
        folder: Of the search ``job``.
        process: The search.
        dead: Process ids of workers that were killed before; the one that is killed joins them. By their titles,
            workers cannot be distinguished: Ray sometimes leaves a worker that trains the title of an idle one.
        delay_s: How long after the report, which is in the next epoch or in writing the checkpoint.
    """
    end = time.monotonic() + LIMIT_S
    while not (found := read_reporters(folder / "runs" / "job") - dead):
        assert process.poll() is None and time.monotonic() < end, read_screen(folder)
        time.sleep(0.02)
    (pid,) = found
    time.sleep(delay_s)
    os.kill(pid, signal.SIGKILL)
    dead.add(pid)


def read_reporters(run: Path) -> set[int]:
    """Returns the process ids of all workers that have reported an epoch."""
    lines = [line for path in run.glob("trials/*/result.json") for line in path.read_text().splitlines(keepends=True)]
    return {json.loads(line)["pid"] for line in lines if line.endswith("\n")}


def test_killed_workers_leave_no_trace(undisturbed: Path, work_folder: Path) -> None:
    draw, dead = random.Random(3), set[int]()
    process = start_search(work_folder, *SMALL, "--name", "job")
    for _ in range(MAX_RETRIES):  # the first trial's workers, in the middle of an epoch or of a checkpoint
        kill_trainer(work_folder, process, dead, draw.uniform(0, 0.8))
    assert process.wait() == 0, read_screen(work_folder)
    assert describe_search(work_folder, "job") == describe_search(undisturbed, "job")


def test_a_worker_that_always_dies_fails_its_trial_alone(work_folder: Path) -> None:
    options = (*DATA, "--num-trials", "2", "--max-epochs", "8", "--confirm", "0")
    process, dead = start_search(work_folder, *options, "--max-concurrent", "1", "--name", "job"), set[int]()
    for _ in range(1 + MAX_RETRIES):
        kill_trainer(work_folder, process, dead)
    assert process.wait() == 0, read_screen(work_folder)
    trials = read_study(work_folder / "runs" / "job")
    assert [trial.state.name == "FAIL" for trial in trials] == [True, False]
    assert "its worker died" in trials[0].user_attrs[REASON]
    screen = read_screen(work_folder)
    assert screen.count("trial   0 is tried again: its worker died") == MAX_RETRIES
    assert screen.count("trial   0 failed: its worker died") == 1
    found = describe_search(work_folder, "job")
    assert (found["statuses"]["FAILED"], found["parent"]) == (1, "FINISHED")


def test_a_lost_node_hands_its_trials_to_the_others(work_folder: Path) -> None:
    with instead_of_python(start_server()):
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    try:
        options = (*DATA, "--num-trials", "4", "--max-epochs", "3", "--confirm", "0")
        address = ("--address", cluster.address)
        refused = start_search(work_folder, *options, *address, "--name", "job")
        assert refused.wait() == 2
        assert "--storage" in read_screen(work_folder)
        storage = str(work_folder / "shared" / ".." / "runs")
        process = start_search(work_folder, *options, *address, "--name", "job", "--storage", storage)
        wait_for_rows(work_folder, process, 2)
        cluster.remove_node(nodes[0], allow_graceful=False)
        assert process.wait() == 0, read_screen(work_folder)
    finally:
        cluster.shutdown()
    trials = read_study(work_folder / "runs" / "job")
    assert len(trials) == 4
    assert {trial.state.name for trial in trials} <= {"COMPLETE", "PRUNED"}
    assert count_rows(work_folder / "runs" / "job") >= sum(len(trial.intermediate_values) for trial in trials)
    assert describe_search(work_folder, "job")["parent"] == "FINISHED"

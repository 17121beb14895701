"""How a machine's or a cluster's cores and GPUs are shared out, and what a worker's errors look like."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
import ray
import torch

from search.cluster import start, workers
from search.cluster.disk import to_storage_error
from search.cluster.resources import TrialResources, check_gpus, list_nodes, share_resources
from search.cluster.start import start_ray
from search.cluster.workers import call_with_resources, check_gpus_compute
from search.errors import ConfigError, SearchError
from trainables.errors import CheckpointError, Finding


@pytest.mark.parametrize(
    ("cpus", "gpus", "per_trial", "at_most", "expected"),
    [
        # No GPU: a core a trial, several cores where fewer trials run at once.
        (2, 0, None, None, TrialResources(1, 0, 2)),
        (16, 0, None, None, TrialResources(1, 0, 16)),
        (16, 0, None, 4, TrialResources(4, 0, 4)),
        (16, 0, None, 3, TrialResources(5, 0, 3)),
        (2, 0, None, 8, TrialResources(1, 0, 2)),
        (1, 0, 0.0, None, TrialResources(1, 0, 1)),
        # A GPU a trial; cores are split, but no more than a trial's loaders can use.
        (8, 1, None, None, TrialResources(5, 1, 1)),
        (16, 4, None, None, TrialResources(4, 1, 4)),
        (64, 8, None, None, TrialResources(5, 1, 8)),
        (64, 8, None, 2, TrialResources(5, 1, 2)),
        # Shared GPUs hold whole trials.
        (16, 1, 0.5, None, TrialResources(5, 0.5, 2)),
        (16, 4, 0.5, None, TrialResources(2, 0.5, 8)),
        (16, 1, 0.4, None, TrialResources(5, 0.4, 2)),
        (16, 4, 0.25, None, TrialResources(1, 0.25, 16)),
        (16, 2, 0.1, None, TrialResources(1, 0.1, 16)),
        # Several GPUs a trial; what is left over idles.
        (16, 8, 2.0, None, TrialResources(4, 2, 4)),
        (16, 8, 3.0, None, TrialResources(5, 3, 2)),
        (16, 8, 8.0, None, TrialResources(5, 8, 1)),
        # Fewer cores than GPUs: each trial needs one.
        (2, 4, None, None, TrialResources(1, 1, 2)),
        # GPUs may be left alone.
        (4, 2, 0.0, None, TrialResources(1, 0, 4)),
    ],
)
def test_resources_are_shared_out(
    cpus: int, gpus: int, per_trial: float | None, at_most: int | None, expected: TrialResources
) -> None:
    node = {"CPU": float(cpus), **({"GPU": float(gpus)} if gpus else {}), "node:127.0.0.1": 1.0}
    shared = share_resources([node], per_trial, at_most)
    assert shared == expected
    assert shared.cpus * shared.concurrent <= cpus
    assert shared.gpus * shared.concurrent <= gpus


@pytest.mark.parametrize(
    ("nodes", "per_trial", "at_most", "expected"),
    [
        ([(4, 0)] * 4, None, 1, TrialResources(4, 0, 1)),
        # A head without GPUs has cores for no trial.
        ([(16, 0), *[(4, 1)] * 4], None, None, TrialResources(4, 1, 4)),
        ([(32, 0), (16, 8)], None, None, TrialResources(2, 1, 8)),
        ([(32, 0), (16, 8)], None, 2, TrialResources(5, 1, 2)),
        ([(16, 2), (4, 2)], None, None, TrialResources(2, 1, 4)),
        ([(16, 2), (16, 1)], 2.0, None, TrialResources(5, 2, 1)),
        ([(16, 2), (0, 4)], None, None, TrialResources(5, 1, 2)),
    ],
)
def test_a_trial_is_never_wider_than_a_node(
    nodes: list[tuple[int, int]], per_trial: float | None, at_most: int | None, expected: TrialResources
) -> None:
    assert share_resources([{"CPU": cpus, "GPU": gpus} for cpus, gpus in nodes], per_trial, at_most) == expected


def test_more_gpus_than_a_node_has_are_refused() -> None:
    with pytest.raises(ConfigError, match="--gpus-per-trial 2: no node has 2 GPUs"):
        share_resources([{"CPU": 8.0, "GPU": 1.0}] * 4, 2.0, None)


@pytest.mark.parametrize(("gpus", "asked"), [(0, 1.0), (0, 0.5), (1, 2.0), (8, 9.0)])
def test_more_gpus_than_there_are_are_refused(gpus: int, asked: float) -> None:
    with pytest.raises(ConfigError, match=f"--gpus-per-trial {asked:g}: {gpus} GPUs? can be seen here"):
        share_resources([{"CPU": 4.0, "GPU": float(gpus)}], asked, None)


@pytest.mark.parametrize("asked", [None, 0.0, 0.5, 2.0])
def test_gpus_that_are_there_are_no_finding(asked: float | None) -> None:
    assert check_gpus(asked, 2) == []


@pytest.mark.parametrize(
    ("cpus", "gpus", "expected"), [(4, 0.0, 0), (1, 1.0, 0), (2, 0.5, 1), (5, 1.0, 4), (9, 1.0, 4)]
)
def test_loaders_run_beside_a_gpu_only(cpus: int, gpus: float, expected: int) -> None:
    assert TrialResources(cpus, gpus, 1).n_workers == expected


@pytest.mark.parametrize("form", ["127.0.0.1:{}", "ray://127.0.0.1:{}", "127.0.0.1:{}0000"])
def test_an_address_without_a_cluster_is_wrong_input(form: str) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # taken, but nobody listens
        address = form.format(unused.getsockname()[1])
        with pytest.raises(ConfigError, match=f"--address {address}: no Ray cluster answers there"):
            start_ray(address)
    assert not ray.is_initialized()


@pytest.fixture(scope="module")
def local_ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    nowhere = tmp_path_factory.mktemp("a temporary folder whose name is too long for sockets below it")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ADDRESS", "127.0.0.1:9")  # of no cluster: a local start must not look there
        patch.setenv("TMPDIR", str(nowhere))
        patch.delenv("RAY_TMPDIR", raising=False)
        start_ray(None)
        yield
        ray.shutdown()
    assert not list(nowhere.iterdir())


WITHOUT_HOME = """
import ray
from search.cluster.start import start_ray
for _ in range(2):
    start_ray(None)
    print(ray.get(ray.remote(lambda: "answered").remote()))
    ray.shutdown()
"""


@pytest.mark.slow
def test_ray_starts_twice_where_the_home_folder_cannot_be_written() -> None:
    """As users of containers have it; in a process of its own, as Ray keeps the token that it found first."""
    environment = {**os.environ, "HOME": "/proc/none"}
    done = subprocess.run([sys.executable, "-c", WITHOUT_HOME], env=environment, capture_output=True, text=True)
    assert done.stdout == "answered\nanswered\n", done.stderr


@pytest.mark.parametrize(
    ("errors", "n_calls", "said"),
    [
        (["Timed out waiting for file gcs_server_port"], 2, None),
        (["Timed out waiting for file gcs_server_port"] * 2, 2, "Timed out waiting"),
        (["no such option"], 1, "no such option"),
    ],
)
def test_ray_is_started_once_more_where_it_did_not_come_up_in_time(
    errors: list[str], n_calls: int, said: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, left = [], list(errors)

    def init(*_: object, **options: object) -> None:
        calls.append(options)
        if left:
            raise RuntimeError(left.pop(0))

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    if said is None:
        start._start_here({})
    else:
        with pytest.raises(SearchError, match=f"^Ray did not start on this machine: {said}"):
            start._start_here({})
    assert len(calls) == n_calls


def test_a_worker_without_a_gpu_of_its_own_sees_none(local_ray: None) -> None:
    call = TrialResources(1, 0, 1), "a look", lambda: os.environ.get("CUDA_VISIBLE_DEVICES")
    assert call_with_resources(*call) == ""


def test_gpus_that_pytorch_cannot_use_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[TrialResources] = []

    def answer(resources: TrialResources, what: str, function: object) -> str:
        asked.append(resources)
        return "the driver is too old"

    monkeypatch.setattr(workers, "call_with_resources", answer)
    check_gpus_compute(TrialResources(2, 0, 1))
    assert not asked
    with pytest.raises(ConfigError, match="PyTorch cannot use them: the driver is too old -> .*--gpus-per-trial 0"):
        check_gpus_compute(TrialResources(2, 1, 1))


def raise_search_error() -> None:
    raise SearchError("the worker's own words")


def raise_checkpoint_error() -> None:
    raise CheckpointError([Finding("a.pt", "is broken", "mend it")])


def raise_bug() -> None:
    raise KeyError("a bug")


def raise_gpu_out_of_memory() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has ...")


def raise_full_disk() -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_worker_has_what_a_trial_is_given(local_ray: None) -> None:
    resources = share_resources(list_nodes(), 0.0, None)
    threads, gpus = call_with_resources(
        resources, "a bar", lambda: (os.environ.get("OMP_NUM_THREADS"), ray.get_gpu_ids())
    )
    assert (threads, gpus) == (str(resources.cpus), [])


def test_errors_on_purpose_come_back_as_they_were_raised(local_ray: None) -> None:
    resources = TrialResources(1, 0, 1)
    with pytest.raises(SearchError) as caught:
        call_with_resources(resources, "a bar", raise_search_error)
    assert str(caught.value) == "the worker's own words"
    with pytest.raises(CheckpointError) as refused:
        call_with_resources(resources, "a bar", raise_checkpoint_error)
    assert refused.value.findings == (Finding("a.pt", "is broken", "mend it"),)


def test_bugs_keep_the_workers_traceback(local_ray: None) -> None:
    with pytest.raises(ray.exceptions.RayTaskError, match="raise_bug"):
        call_with_resources(TrialResources(1, 0, 1), "a bar", raise_bug)


@pytest.mark.parametrize(
    ("function", "why"),
    [
        pytest.param(die, "its worker died (killed", marks=pytest.mark.slow),  # Ray tries four times
        (raise_gpu_out_of_memory, "the GPU's memory ran out (CUDA out of memory. Tried to allocate 2.00 GiB.)"),
    ],
)
def test_a_worker_that_dies_or_finds_no_memory_is_told_in_a_line(
    local_ray: None, function: Callable[[], None], why: str
) -> None:
    with pytest.raises(SearchError) as caught:
        call_with_resources(TrialResources(1, 0, 1), "the zero-shot bar", function)
    assert str(caught.value).startswith(f"the zero-shot bar could not be completed: {why}")
    assert "\n" not in str(caught.value)


def test_a_disk_that_a_worker_finds_full_is_known_for_one(local_ray: None) -> None:
    with pytest.raises(ray.exceptions.RayError) as caught:
        call_with_resources(TrialResources(1, 0, 1), "the export", raise_full_disk)
    told = to_storage_error(caught.value, "/runs/a")
    assert str(told).startswith("/runs/a cannot be written: No space left on device")

"""What a function in a worker gets, and what its errors look like."""

import errno
import os
import signal

import pytest
import ray
import torch

from search.cluster import workers
from search.cluster.disk import to_storage_error
from search.cluster.resources import TrialResources, list_nodes, share_resources
from search.cluster.workers import call_with_resources, check_gpus_compute
from search.errors import ConfigError, SearchError
from trainables.errors import CheckpointError, Finding

ONE_CORE = TrialResources(1, 0, 1)


def fail(error: Exception) -> None:
    raise error


def test_gpus_that_pytorch_cannot_use_are_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[TrialResources] = []

    def answer(resources: TrialResources, what: str, function: object) -> str:
        asked.append(resources)
        return "the driver is too old"

    monkeypatch.setattr(workers, "call_with_resources", answer)
    check_gpus_compute(TrialResources(2, 0, 1))
    assert not asked
    with pytest.raises(ConfigError, match="PyTorch cannot use them: the driver is too old -> .*--gpus-per-trial 0"):
        check_gpus_compute(TrialResources(2, 1, 1))


@pytest.mark.usefixtures("local_ray")
class TestOnThisMachine:
    """Real workers of Ray."""

    def test_a_worker_has_what_a_trial_is_given_and_without_a_gpu_of_its_own_sees_none(self) -> None:
        resources = share_resources(list_nodes(), 0.0, None)
        names = ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")
        found = call_with_resources(resources, "a bar", lambda: (*map(os.environ.get, names), ray.get_gpu_ids()))
        assert found == (str(resources.cpus), "", [])

    def test_errors_on_purpose_come_back_as_they_were_raised_and_bugs_with_their_traceback(self) -> None:
        with pytest.raises(SearchError) as caught:
            call_with_resources(ONE_CORE, "a bar", fail, SearchError("the worker's own words"))
        assert str(caught.value) == "the worker's own words"
        finding = Finding("a.pt", "is broken", "mend it")
        with pytest.raises(CheckpointError) as refused:
            call_with_resources(ONE_CORE, "a bar", fail, CheckpointError([finding]))
        assert refused.value.findings == (finding,)
        with pytest.raises(ray.exceptions.RayTaskError, match="in fail"):
            call_with_resources(ONE_CORE, "a bar", fail, KeyError("a bug"))

    @pytest.mark.slow  # Ray tries four times
    def test_a_worker_that_dies_is_an_error_of_one_line(self) -> None:
        with pytest.raises(SearchError) as caught:
            call_with_resources(ONE_CORE, "the bar", lambda: os.kill(os.getpid(), signal.SIGKILL))
        assert str(caught.value).startswith("the bar could not be completed: its worker died (killed")
        assert "\n" not in str(caught.value)

    def test_a_worker_that_finds_no_memory_is_an_error_of_one_line(self) -> None:
        error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has ...")
        with pytest.raises(SearchError) as caught:
            call_with_resources(ONE_CORE, "the bar", fail, error)
        why = "the GPU's memory ran out (CUDA out of memory. Tried to allocate 2.00 GiB.)"
        assert str(caught.value).startswith(f"the bar could not be completed: {why}")
        assert "\n" not in str(caught.value)

    def test_a_disk_that_a_worker_finds_full_is_recognized(self) -> None:
        full = OSError(errno.ENOSPC, "No space left on device", "/weights")
        with pytest.raises(ray.exceptions.RayError) as caught:
            call_with_resources(ONE_CORE, "the export", fail, full)
        error = to_storage_error(caught.value, "/runs/a")
        assert str(error).startswith("OSError: [Errno 28] No space left on device: '/weights'; make room there")

import os
import platform
import subprocess
import sys
from types import SimpleNamespace

import pytest
import ray
import torch

from trainables.model.device import find_gpu_fault, limit_gpu_memory, pick_device, use_ray_share


def test_the_picked_device_can_compute_or_its_fault_is_pytorchs_own_words() -> None:
    assert float(torch.ones(3, device=pick_device()).sum()) == 3
    assert bool(find_gpu_fault()) != torch.cuda.is_available()


def test_a_process_that_was_given_no_gpu_computes_on_the_cpu() -> None:
    code = "from trainables.model.device import find_gpu_fault, limit_gpu_memory, pick_device; print(pick_device())"
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "cpu"


@pytest.mark.parametrize(("share", "limits"), [(0.5, [0.475]), (0.25, [0.2375]), (1.0, []), (2.0, []), (0.0, [])])
def test_a_share_of_a_gpu_is_one_of_memory(share: float, limits: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[float] = []
    worker = SimpleNamespace(mode=ray.WORKER_MODE)
    context = SimpleNamespace(get_assigned_resources=lambda: {"CPU": 1.0, "GPU": share}, worker=worker)
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray, "get_runtime_context", lambda: context)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", found.append)
    limit_gpu_memory()
    assert found == pytest.approx(limits)
    found.clear()
    worker.mode = ray.SCRIPT_MODE  # the process that started Ray was given nothing
    limit_gpu_memory()
    assert not found


@pytest.mark.parametrize(
    ("variable", "n_threads"), [("1", 1), ("2", 2), ("2,1", 2), (" 2 ", 2), ("0", 1), ("", 1), ("many", 1), (None, 1)]
)
def test_threads_follow_ray_s_variable(monkeypatch: pytest.MonkeyPatch, variable: str | None, n_threads: int) -> None:
    found: list[int] = []
    if variable is None:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    else:
        monkeypatch.setenv("OMP_NUM_THREADS", variable)
    monkeypatch.setattr(torch, "set_num_threads", found.append)
    use_ray_share()
    assert found == [n_threads]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_memory_that_was_freed_is_taken_again_as_it_is() -> None:
    code = """
import resource, torch
from trainables.model.device import keep_freed_memory

def count_new_pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.zeros(10_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

plain = count_new_pages()
keep_freed_memory()
count_new_pages()  # until enough has been freed
print(plain, count_new_pages())
"""
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    plain, kept = map(int, done.stdout.split())
    assert kept < plain / 10

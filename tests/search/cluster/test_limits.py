"""How many CPUs and how much memory a process may use: cgroups and Slurm's variables are given to the functions."""

import os
from pathlib import Path

import psutil
import pytest

from search.cluster.limits import count_cpus, count_memory

SLURM = ("SLURM_CPUS_ON_NODE", "SLURM_MEM_PER_NODE", "SLURM_MEM_PER_CPU")


@pytest.fixture(autouse=True)
def many_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of 64 CPUs, all of them allowed."""
    for name in SLURM:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)


def test_a_process_is_held_to_its_affinity(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert count_cpus(tmp_path) == 64
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5})
    assert count_cpus(tmp_path) == 2


@pytest.mark.parametrize(
    ("files", "count"),
    [
        ({"cpu.max": "max 100000"}, 64),
        ({"cpu.max": "350000 100000"}, 3),
        ({"cpu.max": "50000 100000"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 64),
        ({"cpu/cpu.cfs_quota_us": "400000", "cpu/cpu.cfs_period_us": "100000"}, 4),
    ],
)
def test_a_container_s_share_counts(files: dict[str, str], count: int, tmp_path: Path) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    groups = Path("/proc/self/cgroup").read_text()
    if any(name.startswith("cpu/") for name in files) and ":cpu:" not in groups or "0::" not in groups:
        pytest.skip("this machine's cgroups are of the other version")
    assert count_cpus(tmp_path) == count


def test_a_batch_job_s_share_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    total = psutil.virtual_memory().total
    assert count_memory(tmp_path) == total
    (tmp_path / "memory.max").write_text("max")
    assert count_memory(tmp_path) == total
    (tmp_path / "memory.max").write_text(str(2**30))
    if "0::" in Path("/proc/self/cgroup").read_text():
        assert count_memory(tmp_path) == 2**30
    (tmp_path / "memory.max").unlink()
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", "2")
    monkeypatch.setenv("SLURM_MEM_PER_CPU", "300")
    assert (count_cpus(tmp_path), count_memory(tmp_path)) == (2, 600 * 2**20)
    monkeypatch.setenv("SLURM_MEM_PER_CPU", "0")  # no limit
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "512")
    assert count_memory(tmp_path) == 512 * 2**20

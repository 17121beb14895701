"""What this process may use of its machine: CPUs and memory, within a batch job's or a container's share."""

import os
from collections.abc import Iterator
from pathlib import Path

import psutil

_CGROUPS = Path("/sys/fs/cgroup")


def count_cpus(cgroups: Path = _CGROUPS) -> int:
    """Returns how many CPUs this process may use, at least 1: by its affinity, its cgroups, and Slurm."""
    allowed = [float(os.cpu_count() or 1), *_read_variable("SLURM_CPUS_ON_NODE")]
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        allowed.append(float(len(os.sched_getaffinity(0))))
    for folder in _list_cgroups("cpu", cgroups):
        quota = _read_numbers(folder / "cpu.max") or [
            *_read_numbers(folder / "cpu.cfs_quota_us"),
            *_read_numbers(folder / "cpu.cfs_period_us"),
        ]
        if len(quota) == 2 and min(quota) > 0:  # without a limit, one of them is max or -1
            allowed.append(quota[0] / quota[1])
    return max(1, int(min(allowed)))


def count_memory(cgroups: Path = _CGROUPS) -> int:
    """Returns how many bytes of memory this process may use: by the machine, its cgroups, and Slurm."""
    allowed = [float(psutil.virtual_memory().total)]
    allowed += [2**20 * mb for mb in _read_variable("SLURM_MEM_PER_NODE")]
    allowed += [2**20 * mb * count_cpus(cgroups) for mb in _read_variable("SLURM_MEM_PER_CPU")]
    for folder in _list_cgroups("memory", cgroups):
        for name in ("memory.max", "memory.limit_in_bytes"):
            allowed += _read_numbers(folder / name)
    return int(min(allowed))


def count_decoders() -> int:
    """Returns in how many processes regions may be decoded or drawn: one a CPU, and one for each 2 GB of memory."""
    return min(count_cpus(), max(1, count_memory() // 2**31))


def _read_variable(name: str) -> list[float]:
    """Returns a variable's number in a list; an empty one where it has none, or 0, which sets no limit."""
    text = os.environ.get(name, "")
    return [float(text)] if text.isdecimal() and int(text) else []


def _read_numbers(path: Path) -> list[float]:
    """Returns the numbers in a file of a cgroup; none where there is no such file."""
    try:
        return [float(word) for word in path.read_text().split() if word.lstrip("-").isdecimal()]
    except OSError:
        return []


def _list_cgroups(controller: str, top: Path) -> Iterator[Path]:
    """Yields the folders of this process's cgroups of both versions, and of those above them."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:  # macOS has none
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers or controller in controllers.split(","):
            root = top / controller if controllers else top
            folder = root / path.lstrip("/")
            yield from (each for each in (folder, *folder.parents) if each.is_relative_to(root))

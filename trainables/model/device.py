"""The device that this process computes on, and its share of it."""

import ctypes
import os
import resource
import sys

import torch

# Share of a shared GPU's memory that is left to the CUDA contexts of its trials.
CONTEXT_SHARE = 0.05

# What glibc's mallopt sets, from malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


def pick_device() -> torch.device:
    """Returns this process's GPU, or the CPU; Ray shows a process only the GPUs it was given."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def find_gpu_fault() -> str:
    """Returns why PyTorch cannot compute on this process's GPU; empty where it can."""
    try:
        torch.ones(1, device="cuda").sum().item()
    except (RuntimeError, AssertionError) as error:  # a build without CUDA asserts
        return str(error).strip().partition("\n")[0][:300] or type(error).__name__
    return ""


def use_ray_share() -> None:
    """Limits PyTorch to what Ray gave this process: its cores (``OMP_NUM_THREADS``) and its part of a GPU.

    On a CPU it keeps freed memory, see :func:`keep_freed_memory`.
    """
    limit_gpu_memory()
    keep_freed_memory()
    # OpenMP allows a list, one number for each level of nesting: the outermost counts.
    outermost = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    torch.set_num_threads(max(1, int(outermost)) if outermost.isdecimal() else 1)


def keep_freed_memory() -> None:
    """Without a GPU, lets the C library keep freed memory for the next tensors, where it is glibc.

    Else it gives large tensors back to the system at once, which clears their memory anew for each of the next ones: a
    tenth to a quarter of the time of a step at 1024 px.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None and not torch.cuda.is_available():
        mallopt(_M_MMAP_MAX, 0)  # no memory of its own for a large tensor
        mallopt(_M_TRIM_THRESHOLD, -1)  # never


def limit_gpu_memory() -> None:
    """Limits this process to its share of the GPU's memory, if Ray gave it a part of a GPU.

    Ray only keeps books: without the limit the first trial takes all memory and the next one fails.
    """
    ray = sys.modules.get("ray")  # a process that Ray started has imported it
    if ray is None or not torch.cuda.is_available() or not ray.is_initialized():
        return
    process = ray.get_runtime_context()
    share = process.get_assigned_resources().get("GPU", 1.0) if process.worker.mode == ray.WORKER_MODE else 1.0
    if 0 < share < 1:
        torch.cuda.set_per_process_memory_fraction((1 - CONTEXT_SHARE) * share)


def forget_peak_memory(device: torch.device) -> None:
    """Begins anew to measure what :func:`read_peak_memory_mb` returns; a process's own memory cannot be begun anew."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def read_peak_memory_mb(device: torch.device) -> float:
    """Returns the greatest memory in MB (10^6 bytes): what PyTorch held of a GPU; else of this process, ever."""
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device) / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def read_total_memory_mb(device: torch.device) -> float:
    """Returns all memory in MB (10^6 bytes): of the GPU; else of this machine."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory / 1e6
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e6

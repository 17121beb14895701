"""Which device this process computes on, and how much of it."""

from __future__ import annotations

import sys

import torch

# Of a shared GPU's memory, what its trials' own limits leave to their CUDA contexts.
CONTEXT_SHARE = 0.05


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


def limit_gpu_memory() -> None:
    """Leaves the other trials on a GPU their part of its memory, where Ray gave this process a part of the GPU.

    To Ray the parts are bookkeeping alone: the first trial would take what it can get, and the next one fail.
    """
    ray = sys.modules.get("ray")  # a process that Ray started has imported it
    if ray is None or not torch.cuda.is_available() or not ray.is_initialized():
        return
    share = ray.get_runtime_context().get_assigned_resources().get("GPU", 1.0)
    if 0 < share < 1:
        torch.cuda.set_per_process_memory_fraction((1 - CONTEXT_SHARE) * share)

"""Which device this process computes on."""

from __future__ import annotations

import torch


def pick_device() -> torch.device:
    """Returns this process's GPU, or the CPU; Ray shows a process only the GPUs it was given."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")

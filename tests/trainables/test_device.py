from __future__ import annotations

import os
import subprocess
import sys

import torch

from trainables.device import pick_device


def test_the_picked_device_can_compute() -> None:
    assert float(torch.ones(3, device=pick_device()).sum()) == 3


def test_a_process_that_was_given_no_gpu_computes_on_the_cpu() -> None:
    code = "from trainables.device import pick_device; print(pick_device())"
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    told = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert told.stdout.strip() == "cpu"

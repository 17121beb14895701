"""Two trials that share one GPU train at once, each within its part of the memory."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
import torch

from search.cluster.resources import TrialResources
from search.cluster.start import start_ray
from search.cluster.workers import map_with_resources
from trainables.context import TrialContext


@pytest.fixture
def running_ray(device: torch.device) -> Iterator[None]:
    ray.shutdown()  # what other tests of this process may have left running
    start_ray(None)
    yield
    ray.shutdown()


@pytest.mark.usefixtures("running_ray")
def test_two_trials_share_a_gpu_within_their_limits(
    context: TrialContext, device: torch.device, tmp_path: Path
) -> None:
    # Defined here, as workers cannot import a test: it travels by value.
    def train(context: TrialContext, folder: Path, name: str) -> dict[str, Any]:
        import torch

        from trainables.data.splits import Fold
        from trainables.model.device import pick_device, read_peak_memory_mb, use_ray_share
        from trainables.model.weights import load_model
        from trainables.recipe import Recipe
        from trainables.training.fine_tune import FineTune

        use_ray_share()
        device, base = pick_device(), load_model("nano", None).state_dict()
        fit = FineTune(context, Fold(context.train, context.val), base, Recipe(), device)
        (folder / name).touch()
        until = time.monotonic() + 120
        while len(list(folder.iterdir())) < 2 and time.monotonic() < until:
            time.sleep(0.1)
        found = {"n_running": len(list(folder.iterdir())), "loss": fit.train_epoch(0).losses["total"]}
        found |= {"device": device.type, "peak_mb": read_peak_memory_mb(device), "refused": False}
        if device.type == "cuda":
            total = torch.cuda.get_device_properties(device).total_memory
            try:
                torch.empty(int(0.55 * total), dtype=torch.uint8, device=device)
            except torch.OutOfMemoryError:
                found["refused"] = True
        return found

    meeting = tmp_path / "meeting"
    meeting.mkdir()
    resources = TrialResources(cpus=1, gpus=0.5 if device.type == "cuda" else 0.0, concurrent=2)
    calls = [(context, meeting, name) for name in ("one", "two")]
    found = map_with_resources(resources, "two trials", train, calls)
    assert [each["n_running"] for each in found] == [2, 2]
    assert found[0]["loss"] == pytest.approx(found[1]["loss"], rel=1e-2)
    for each in found:
        assert each["device"] == device.type
        if device.type == "cuda":
            assert each["refused"] and each["peak_mb"] > 0

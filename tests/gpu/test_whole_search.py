"""A whole search on one GPU: regions of 1024 px, a tiny SAM2 with random weights, and as many trials as fit."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tissue_set import write_tissue

from trainables.model.build import MODELS, build_architecture


def write_random_weights(name: str, path: Path) -> None:
    """Writes a model that has learned nothing.

    It always takes the second of its three masks: chosen by chance, rounding would choose another.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build_architecture(MODELS[name])
    with torch.no_grad():
        model.sam_mask_decoder.iou_prediction_head.layers[-1].bias += torch.tensor([0.0, 0.0, 2.0, 0.0])
    torch.save({"model": model.state_dict()}, path)


def run_search(folder: Path, model: str, *arguments: str) -> tuple[int, str]:
    """Runs a search of two trials in a process of its own; returns its exit code and its screen."""
    command = ["-m", "search.run", "--space", "lora.yaml", "--data", "data", "--name", "job", "--num-trials", "2"]
    # Nothing is cut off by components: what has learned nothing has masks that any rounding would cut elsewhere.
    command += [
        "--protocol",
        "box",
        "--model",
        model,
        "--checkpoint",
        "weights.pt",
        "--max-epochs",
        "1",
        "--confirm",
        "0",
        "--json",
    ]
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    done = subprocess.run(
        [sys.executable, *command, *arguments],
        **{"cwd": folder, "env": environment, "text": True, "timeout": 500},
        **{"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT},
    )
    return done.returncode, done.stdout


def check_search(folder: Path, code: int, screen: str) -> None:
    """Checks that a search came to its end, and what its trials say of their speed."""
    assert code == 0, screen
    summary = json.loads((folder / "runs" / "job" / "summary.json").read_text())
    assert "failed" not in summary["trials"] and (folder / "runs" / "job" / "export").is_dir()
    rows = [json.loads(path.read_text().splitlines()[-1]) for path in folder.glob("runs/job/trials/*/result.json")]
    assert len(rows) == 2
    assert all(row["images_per_s"] > 0 and np.isfinite(row["train_loss"]) for row in rows)


@pytest.mark.gpu
@pytest.mark.usefixtures("gpu")
def test_a_search_on_regions_of_1024_px(tmp_path: Path) -> None:
    write_tissue(tmp_path / "data", MODELS["tiny"].side_px, n_train=4, n_val=2, n_test=2)
    write_random_weights("tiny", tmp_path / "weights.pt")
    code, screen = run_search(tmp_path, "tiny", "--gpus-per-trial", "auto")
    check_search(tmp_path, code, screen)
    assert "of a GPU" in screen

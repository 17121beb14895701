"""Class prompts as a user meets them: a search on the demo, its export, and masks of images without annotation."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainables.data.images import read_image, read_mask


def run_python(folder: Path, *arguments: str) -> str:
    environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    done = subprocess.run(
        [sys.executable, "-m", *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_search_gives_a_model_that_needs_no_prompts(work_folder: Path, demo_root: Path) -> None:
    """Two epochs are too few to name much: here the way from the space to the masks is tried."""
    shutil.copytree(demo_root, work_folder / "runs" / ".cache" / "demo-tissue")
    options = ("--num-trials", "1", "--max-epochs", "2", "--confirm", "0")
    screen = run_python(work_folder, "search.run", "--space", "classprompts.yaml", *options, "--name", "job")
    assert "zero-shot SAM2 has no answer of its own" in screen and "scale 1 ..." in screen
    summary = json.loads((work_folder / "runs" / "job" / "summary.json").read_text())
    assert summary["protocol"] == "auto" and summary["best_scale"] == 1
    assert summary["val_dice"] > summary["val_floor"]
    assert summary["export_val_dice"] == pytest.approx(summary["val_dice"], abs=0.001)
    images = sorted((work_folder / "runs" / ".cache" / "demo-tissue" / "images").iterdir())[:1]
    large = work_folder / "large.png"
    Image.fromarray(np.tile(read_image(images[0]), (2, 2, 1))[:500, :600]).save(large)
    run_python(
        work_folder, "search.predict", "--model", "runs/job/export", "--out", "masks", str(images[0]), str(large)
    )
    assert read_mask(work_folder / "masks" / "large.png").shape == (500, 600)
    legend = json.loads((work_folder / "masks" / "legend.json").read_text())
    ids = {entry["id"] for entry in legend["classes"]}
    assert set(np.unique(read_mask(work_folder / "masks" / images[0].name))) <= ids

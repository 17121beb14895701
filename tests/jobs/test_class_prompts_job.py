"""Class prompts as a user meets them: a search on the demo, its export, and masks of images without annotation."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from searches import read_screen, start_search

from search.plan.data_inputs import DEMO_FOLDER
from search.predict import main as predict
from trainables.data.images import read_image, read_mask
from trainables.demo.tissue import write_demo


@pytest.mark.slow
def test_a_search_gives_a_model_that_needs_no_prompts(work_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four epochs are too few to name much: here the way from the space to the masks is tried."""
    monkeypatch.setattr("trainables.demo.tissue.DEMO_COUNTS", {"train": 12, "val": 4, "test": 6})
    write_demo(work_folder / "runs" / ".cache" / DEMO_FOLDER)
    options = ("--num-trials", "1", "--max-epochs", "4", "--confirm", "0")
    process = start_search(work_folder, "--space", "classprompts.yaml", *options, "--name", "job")
    assert process.wait() == 0, read_screen(work_folder)
    screen = read_screen(work_folder)
    assert "zero-shot SAM2 has no answer of its own" in screen and "scale 1 ..." in screen
    summary = json.loads((work_folder / "runs" / "job" / "summary.json").read_text())
    assert summary["protocol"] == "auto" and summary["best_scale"] == 1
    assert summary["val_dice"] > summary["val_floor"]
    assert summary["export_val_dice"] == pytest.approx(summary["val_dice"], abs=0.001)
    images = sorted((work_folder / "runs" / ".cache" / DEMO_FOLDER / "images").iterdir())[:1]
    large = work_folder / "large.png"
    Image.fromarray(np.tile(read_image(images[0]), (2, 2, 1))[:500, :600]).save(large)
    monkeypatch.chdir(work_folder)
    assert predict(["--model", "runs/job/export", "--out", "masks", str(images[0]), str(large)]) == 0
    assert read_mask(work_folder / "masks" / "large.png").shape == (500, 600)
    legend = json.loads((work_folder / "masks" / "legend.json").read_text())
    ids = {entry["id"] for entry in legend["classes"]}
    assert set(np.unique(read_mask(work_folder / "masks" / images[0].name))) <= ids

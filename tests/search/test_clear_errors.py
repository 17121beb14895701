"""Wrong input, as a user gives it to the main job: everything told at once, exit code 2, nothing started."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from search.run import main

pytestmark = pytest.mark.usefixtures("ray_stays_off")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A sound data set of six regions in two classes, with a split."""
    root = tmp_path / "data"
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    rng = np.random.default_rng(0)
    names = [f"r{number}.png" for number in range(6)]
    for name in names:
        Image.fromarray(rng.integers(0, 255, (64, 80, 3), np.uint8)).save(root / "images" / name)
        mask = np.zeros((64, 80), np.uint8)
        mask[10:40, 10:40], mask[40:60, 40:70] = 1, 2
        Image.fromarray(mask).save(root / "masks" / name)
    split = f"{{train: [{', '.join(names[:4])}], val: [{names[4]}], test: [{names[5]}]}}"
    (root / "dataset.yaml").write_text(f"name: small\nclasses: {{1: a, 2: b}}\nsplit: {split}\n")
    return root


def run_main(capsys: pytest.CaptureFixture[str], tmp_path: Path, *arguments: str) -> str:
    """Runs the command; asserts that it refused and that nothing was started; returns what it said."""
    storage = tmp_path / "runs"
    given = ["--storage", str(storage), "--name", "refused", *arguments]
    if "--space" not in arguments:
        given += ["--space", "lora.yaml"]
    assert main(given) == 2
    assert not (storage / "refused").exists()
    assert not list(tmp_path.rglob("mlflow.db"))
    return capsys.readouterr().err


def test_unknown_key_is_told_with_file_line_and_nearest(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, data: Path
) -> None:
    space = tmp_path / "mine.yaml"
    space.write_text("name: mine\nspace:\n  adapter.rnak: {choice: [4, 8]}\n")
    said = run_main(capsys, tmp_path, "--space", str(space), "--data", str(data))
    assert "mine.yaml:3" in said
    assert "adapter.rnak" in said
    assert "adapter.rank" in said


def test_missing_data(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    said = run_main(capsys, tmp_path, "--data", str(tmp_path / "nowhere"))
    assert "nowhere" in said


def test_image_without_mask(capsys: pytest.CaptureFixture[str], tmp_path: Path, data: Path) -> None:
    (data / "masks" / "r2.png").unlink()
    said = run_main(capsys, tmp_path, "--data", str(data))
    assert "r2.png" in said
    assert "mask" in said


def test_sizes_that_differ(capsys: pytest.CaptureFixture[str], tmp_path: Path, data: Path) -> None:
    Image.fromarray(np.ones((10, 20), np.uint8)).save(data / "masks" / "r1.png")
    said = run_main(capsys, tmp_path, "--data", str(data))
    assert "r1.png" in said
    assert "80 x 64" in said or "64 x 80" in said or "80x64" in said


def test_mask_with_none_of_the_classes(capsys: pytest.CaptureFixture[str], tmp_path: Path, data: Path) -> None:
    Image.fromarray(np.full((64, 80), 9, np.uint8)).save(data / "masks" / "r3.png")
    said = run_main(capsys, tmp_path, "--data", str(data))
    assert "r3.png" in said
    assert "9" in said


def test_unreadable_image(capsys: pytest.CaptureFixture[str], tmp_path: Path, data: Path) -> None:
    path = data / "images" / "r0.png"
    path.write_bytes(path.read_bytes()[:200])
    assert "r0.png" in run_main(capsys, tmp_path, "--data", str(data))


def test_checkpoint_of_another_model(capsys: pytest.CaptureFixture[str], tmp_path: Path, data: Path) -> None:
    path = tmp_path / "other.pt"
    weights = {
        "image_encoder.trunk.patch_embed.proj.weight": torch.zeros(96, 3, 7, 7),
        **{f"image_encoder.trunk.blocks.{index}.norm1.weight": torch.zeros(1) for index in range(12)},
    }
    torch.save({"model": weights}, path)
    said = run_main(capsys, tmp_path, "--data", str(data), "--checkpoint", str(path))
    assert "other.pt" in said
    assert "--model tiny" in said


def test_empty_split(capsys: pytest.CaptureFixture[str], tmp_path: Path, data: Path) -> None:
    text = (data / "dataset.yaml").read_text().replace("val: [r4.png]", "val: []")
    (data / "dataset.yaml").write_text(text)
    assert "val" in run_main(capsys, tmp_path, "--data", str(data))


def test_stock_model_without_weights(capsys: pytest.CaptureFixture[str], tmp_path: Path, data: Path) -> None:
    said = run_main(capsys, tmp_path, "--data", str(data), "--model", "large")
    assert "sam2.1_hiera_large.pt" in said


def test_all_findings_at_once(capsys: pytest.CaptureFixture[str], tmp_path: Path, data: Path) -> None:
    space = tmp_path / "mine.yaml"
    space.write_text("name: mine\nnum_trails: 3\nspace:\n  optim.lr: {low: 1.0e-2, high: 1.0e-4, log: true}\n")
    (data / "masks" / "r2.png").unlink()
    shutil.copy(data / "masks" / "r1.png", data / "masks" / "lonely.png")
    said = run_main(
        capsys,
        tmp_path,
        *("--space", str(space), "--data", str(data), "--model", "nanno", "--protocol", "boxes"),
    )
    for word in ("num_trails", "mine.yaml:4", "r2.png", "lonely.png", "nanno", "boxes"):
        assert word in said, word


def test_a_name_that_exists(capsys: pytest.CaptureFixture[str], tmp_path: Path, data: Path) -> None:
    (tmp_path / "runs" / "taken").mkdir(parents=True)
    said = run_main(capsys, tmp_path, "--data", str(data), "--name", "taken")
    assert "taken" in said
    assert "exists" in said


@pytest.mark.parametrize(
    "option",
    [("--num-trials", "0"), ("--time-budget", "soon"), ("--gpus-per-trial", "1.5"), ("--split", "x"), ("--seed", "-1")],
)
def test_options_out_of_range(option: tuple[str, str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--space", "lora.yaml", *option])
    assert stopped.value.code == 2


def test_more_gpus_than_there_are(capsys: pytest.CaptureFixture[str], tmp_path: Path, data: Path) -> None:
    said = run_main(capsys, tmp_path, "--data", str(data), "--gpus-per-trial", "64")
    assert "--gpus-per-trial 64" in said

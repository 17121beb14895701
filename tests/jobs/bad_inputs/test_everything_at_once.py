"""Several inputs wrong at the same time: all is reported at once, and the screen stays one."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from search.check import MAX_ALIKE, main
from search.command_line.options import SearchOptions
from search.plan.planner import make_plan
from search.plan.search_plan import MAX_NOTES


def test_space_data_weights_options(data: Path, tmp_path: Path, check: Callable, assert_reported: Callable) -> None:
    space = tmp_path / "mine.yaml"
    space.write_text("num_trails: 3\nspace:\n  optim.lr: {low: 1.0e-2, high: 1.0e-4, log: true}\n")
    weights = tmp_path / "w.pt"
    weights.write_bytes(b"")
    (data / "masks" / "r01.png").unlink()  # pairs are missing, and pixels are wrong
    (data / "images" / "r02.png").write_bytes(b"")
    Image.fromarray(np.full((40, 48), 255, np.uint8)).save(data / "masks" / "r03.png")
    Image.fromarray(np.full((40, 48, 3), 250, np.uint8)).save(data / "images" / "r04.png")
    shutil.copy(data / "masks" / "r05.png", data / "masks" / "lonely.png")
    (data / "dataset.yaml").write_text(
        "splt: {}\nclasses: {1: tumor, 2: stroma, 3: lymphocyte, 4: necrosis, 18: blood_vessel}\n"
    )
    options = ("--checkpoint", str(weights), "--protocol", "boxes", "--gpus-per-trial", "64", "--name", "a/b")
    outcome = check("--space", str(space), *options)
    for where, what in (
        ("mine.yaml:1", "num_trails"),
        ("mine.yaml:3", "low"),
        ("w.pt", "0 bytes"),
        ("--protocol boxes", "no such protocol"),
        ("--gpus-per-trial 64", "can be seen here"),
        ("--name a/b", "must be 1 to 100"),
        ("images/r01.png", "has no mask"),
        ("images/r02.png", "0 bytes"),
        ("masks/r03.png", "looks like 0/255"),
        ("masks/lonely.png", "has no image"),
        ("dataset.yaml:1 splt", "did you mean 'split'?"),
    ):
        assert_reported(outcome.findings, where, what)
    assert len(outcome.findings) == 11
    assert_reported(outcome.warnings, "images/r04.png", "as bright as empty glass")


@pytest.mark.parametrize("fault", ["image that cannot be decoded", "missing mask"])
@pytest.mark.parametrize("leak", ["r00.png: p, r19.png: p", "r00.png: p, r10.png: p"])
def test_patients_in_two_parts_are_reported_beside_files_at_fault(
    data: Path, check: Callable, assert_reported: Callable, fault: str, leak: str
) -> None:
    with (data / "dataset.yaml").open("a") as file:
        file.write(f"patients: {{{leak}}}\n")
    if fault == "missing mask":
        (data / "masks" / "r02.png").unlink()
    else:
        (data / "images" / "r02.png").write_bytes(b"")
    outcome = check()
    assert_reported(outcome.findings, "images/r02.png", "no mask" if fault == "missing mask" else "0 bytes")
    assert_reported(outcome.findings, "split", "patient p stands in 2 parts")
    assert len(outcome.findings) == 2


def test_findings_and_warnings_are_apart(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in sorted((data / "masks").iterdir())[:12]:
        path.write_bytes(b"")
    (data / "images" / "slide.svs").write_text("")
    options = ["--space", "lora.yaml", "--data", str(data), "--storage", str(tmp_path / "runs")]
    assert main(options) == 2
    said = capsys.readouterr().out
    warnings, findings = said.index("warnings: 1; they stop nothing"), said.index("findings: 12; each stops a search")
    assert warnings < said.index("slide.svs") < findings < said.index("r00.png")
    assert f"... and {12 - MAX_ALIKE} more alike" in said
    assert said.count("copy the file again") == 1


def test_the_screen_of_a_sound_input_says_what_would_be_searched(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--space", "lora.yaml", "--data", str(data), "--storage", str(tmp_path / "runs")]) == 0
    said = capsys.readouterr().out
    assert "24 trials" in said and "fingerprint" in said and "DEMO" in said
    assert said.endswith("OK: this search can start\n")


def test_the_screen_of_a_search_has_the_first_remarks_and_how_to_see_all(data: Path, tmp_path: Path) -> None:
    for path in (data / "images").iterdir():
        Image.fromarray(np.array(Image.open(path))[..., [1, 0, 1]]).save(path)
    lines = make_plan(SearchOptions(space="lora.yaml", data=str(data), storage=str(tmp_path / "runs"))).to_lines()
    notes = [line for line in lines if line.startswith("note ")]
    assert (
        len(notes) == MAX_NOTES + 1
        and f"{20 - MAX_NOTES} more, which are listed by: python -m search.check" in notes[-1]
    )

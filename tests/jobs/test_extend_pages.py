"""The how-to pages that add a trainable, a loss, an augmentation and a scheduler: their patches apply, and run."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").glob("extend-*.md"))
SMALL = "--data data --num-trials 1 --max-epochs 1 --confirm 0 --name patched"
# The tests that the patches add, and a search with all that they add; one process, as imports take longest.
RUN = "import sys, pytest; from search.run import main; sys.exit(pytest.main(sys.argv[1:]) or main({words!r}))"


def find_blocks(page: Path, language: str) -> list[str]:
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    return [text for name, text in blocks if name == language]


def list_added_tests() -> list[str]:
    return [file for page in PAGES for file in re.findall(r"^\+\+\+ b/(tests/.*)", page.read_text(), re.MULTILINE)]


@pytest.fixture(scope="module")
def patched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository to which every page's patch has been applied as the page says."""
    copy = tmp_path_factory.mktemp("patched")
    for folder in ("search", "trainables", "spaces", "tests"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    for page in PAGES:
        (patch,) = find_blocks(page, "diff")
        done = subprocess.run(["git", "apply", "-"], cwd=copy, input=patch, text=True, capture_output=True)
        assert done.returncode == 0, f"{page.name}: {done.stderr}"
    return copy


def test_each_page_s_patch_applies_and_keeps_to_the_rules_of_the_code(patched: Path) -> None:
    assert [page.stem for page in PAGES] == [
        f"extend-{what}" for what in ("augmentation", "loss", "scheduler", "trainable")
    ]
    for check in (["check"], ["format", "--check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *check, "search", "trainables", *list_added_tests()],
            cwd=patched,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_what_the_pages_add_runs(patched: Path, make_work_folder: Callable[[str], Path]) -> None:
    added = list_added_tests()
    changes: list[str] = []
    for page in PAGES:
        (command,) = find_blocks(page, "")
        words = shlex.split(command)
        assert words[:4] == ["sam2-search", "run", "--space", "lora.yaml"]
        changes += words[4:]
    folder = make_work_folder("extended")
    script = RUN.format(words=["--space", "lora.yaml", *changes, *SMALL.split()])
    done = subprocess.run(
        [sys.executable, "-c", script, "-q", f"--rootdir={patched}", *(str(patched / file) for file in added)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(patched)},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0 and f"{len(added)} passed" in done.stdout, done.stdout + done.stderr
    run = folder / "runs" / "patched"
    (trial,) = (run / "trials").glob("trial*/")
    assert json.loads((trial / "result.json").read_text())["train_loss/tversky"] > 0
    config = json.loads((run / "search.json").read_text())["config"]
    assert config["scheduler"]["kind"] == "median" and config["fixed"]["augment.kind"] == "blur"
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    (experiment,) = (each for each in client.search_experiments() if each.name == "lora")
    named = {each.data.tags.get("trainable") for each in client.search_runs([experiment.experiment_id])}
    assert named - {None} == {"HeadsFirst"}

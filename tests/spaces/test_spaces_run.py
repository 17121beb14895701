"""Every shipped space runs the whole main job on the demo, with one or two trials of one epoch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from search.config import find_space, list_spaces, load_config
from trainables.protocol import PROTOCOLS

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def storage(make_work_folder: Callable[[str], Path]) -> Path:
    """One storage for all, so that the demo is decoded once."""
    return make_work_folder("spaces")


def run_search(storage: Path, *options: str) -> dict[str, Any]:
    environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    done = subprocess.run(
        [sys.executable, "-m", "search.run", *options, "--json", "--storage", str(storage / "runs")],
        cwd=storage,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout
    outcome: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return outcome


@pytest.mark.parametrize("space", list_spaces())
def test_the_space_runs_to_its_end(storage: Path, space: str) -> None:
    config = load_config(find_space(space), PROTOCOLS)
    name = space.removesuffix(".yaml").replace("/", "-")
    options = ["--space", space, "--name", name, *([] if config.is_replay else ["--num-trials", "2"])]
    if not config.train:
        outcome = run_search(storage, *options)
        assert len(outcome["rows"]) == (1 if config.is_replay else 2)
        first = {path: path.read_text() for path in (storage / "runs" / name).rglob("result.json")}
        assert run_search(storage, "--resume", name) == outcome
        assert first == {path: path.read_text() for path in (storage / "runs" / name).rglob("result.json")}
        return
    outcome = run_search(storage, *options, "--max-epochs", "1", "--confirm", "0")
    assert set(outcome["trials"]) == {"complete"}, outcome["trials"]
    assert outcome["verdict"] in ("beaten", "not beaten", "undecided")
    assert (Path(outcome["export"]) / "README.md").is_file()

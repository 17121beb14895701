"""Files and folders that permission bits close; checked in a process that the bits bind, even where we are root."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from search.space.config import find_space
from trainables.errors import Finding
from trainables.model.weights import NANO_WEIGHTS

# Closes one path after the other, as lines of standard input name it, and runs the pre-flight on each.
DRIVER = """
import json, sys
from pathlib import Path
from search.check import main
for line in sys.stdin:
    name, mode, options = json.loads(line)
    path = Path(name)
    before = path.stat().st_mode
    path.chmod(mode)
    try:
        main(options)
    except Exception as error:
        print(json.dumps({"raised": repr(error)}))
    finally:
        path.chmod(before)
"""

# Path -> mode, where the finding is, what it says.
CLOSED: dict[str, tuple[str, int, str, str]] = {
    "storage that is read-only": ("runs", 0o500, "--storage", "cannot be written to"),
    "storage that is closed": ("runs", 0o000, "--storage", "cannot be written to"),
    "storage that cannot be read": ("runs", 0o300, "--storage", "cannot be read"),
    "cache that is read-only": ("runs/.cache", 0o500, ".cache", "Permission denied"),
    "image": ("data/images/r03.png", 0o000, "images/r03.png", "cannot be read (Permission denied)"),
    "mask": ("data/masks/r03.png", 0o000, "masks/r03.png", "cannot be read (Permission denied)"),
    "folder of masks": ("data/masks", 0o000, "data/masks", "cannot be listed (Permission denied)"),
    "folder of masks that shows names alone": ("data/masks", 0o400, "data/masks", "Permission denied"),
    "folder of the data": ("data", 0o000, "data", "Permission denied"),
    "dataset.yaml": ("data/dataset.yaml", 0o000, "dataset.yaml", "Permission denied"),
    "space": ("mine.yaml", 0o000, "mine.yaml", "Permission denied"),
    "weights": ("w.pt", 0o000, "w.pt", "Permission denied"),
    "working directory that is read-only": (".", 0o500, "MLflow's store", "cannot be written"),
    "safetensors": ("w.safetensors", 0o000, "w.safetensors", "Permission denied"),
}


@pytest.fixture(scope="module")
def bound() -> list[str]:
    """A command prefix for a process that permission bits bind: for root one without the right to pass them over."""
    if os.geteuid() != 0:
        return []
    rights = "-dac_override,-dac_read_search"
    prefix = ["setpriv", f"--bounding-set={rights}", f"--inh-caps={rights}"]
    if not shutil.which("setpriv") or subprocess.run([*prefix, "true"], capture_output=True).returncode:
        pytest.skip("needs a user other than root, or setpriv: root may read and write anything")
    return prefix


@pytest.fixture(scope="module")
def answers(bound: list[str], sound_root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What the pre-flight answers where one path is closed."""
    import torch

    root = tmp_path_factory.mktemp("closed")
    shutil.copytree(sound_root, root / "data")
    (root / "runs" / ".cache").mkdir(parents=True)
    shutil.copy(find_space("lora.yaml"), root / "mine.yaml")
    torch.save({"model": load_file(NANO_WEIGHTS)}, root / "w.pt")
    shutil.copy(NANO_WEIGHTS, root / "w.safetensors")
    given = ["--space", "mine.yaml", "--data", "data", "--storage", "runs", "--json"]
    lines = []
    for name, mode, _, _ in CLOSED.values():
        weights = ["--checkpoint", name] if name.startswith("w.") else []
        lines.append(json.dumps([name, mode, [*given, *weights]]))
    done = subprocess.run(
        [*bound, sys.executable, "-c", DRIVER], input="\n".join(lines), cwd=root, text=True, capture_output=True
    )
    assert done.returncode == 0, done.stderr
    return dict(zip(CLOSED, map(json.loads, done.stdout.splitlines()), strict=True))


def test_a_colleagues_search_that_is_closed_is_reported(bound: list[str], tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "search.json").write_text("{}")
    (tmp_path / "theirs").chmod(0o000)
    command = [*bound, sys.executable, "-m", "search.report", "--run", "theirs"]
    done = subprocess.run(command, cwd=tmp_path, text=True, capture_output=True)
    (tmp_path / "theirs").chmod(0o700)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert f"{tmp_path / 'theirs'} cannot be read: Permission denied" in done.stderr


@pytest.mark.parametrize("name", CLOSED)
def test_a_closed_path_is_reported(
    name: str, answers: dict[str, dict[str, Any]], assert_reported: Callable[[list[Finding], str, str], None]
) -> None:
    _, _, where, what = CLOSED[name]
    assert "raised" not in answers[name], answers[name]
    assert_reported([Finding(**each) for each in answers[name]["findings"]], where, what)

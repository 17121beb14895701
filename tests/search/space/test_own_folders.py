"""Files of the user's own in the working directory hide nothing of the project."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_a_user_s_files_hide_no_module(tmp_path: Path) -> None:
    for folder in ("spaces", "search/results"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("spaces/__init__.py", "trainables.py", "yaml.py", "colorsys.py"):
        (tmp_path / name).write_text("raise ImportError('not the one that is meant')")
    (tmp_path / "spaces" / "mine.yaml").write_text("space: {adapter.rank: {choice: [4, 8]}}\nstart_from: recorded\n")
    command = [sys.executable, "-m", "search.check", "--storage", "far", "--space"]
    for space, code, said in (("none", 2, "shipped are: adapters.yaml"), ("spaces/mine.yaml", 0, "OK: this search")):
        done = subprocess.run([*command, space], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == code and said in done.stdout, done.stdout + done.stderr

"""A disk that is full, or that can only be read: one clear message. What fills up in mid-search: test_killed_driver."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from searches import SMALL, fill, read_screen, start_search

from search.export import main as export

pytestmark = pytest.mark.slow


@pytest.fixture
def small_disk(limited_disk: Path | None) -> Path:
    """The folder ``runs`` of a working directory, on a small file system of its own."""
    return limited_disk or pytest.skip("needs the right to mount a file system")


def test_an_export_that_finds_no_room_says_so_and_leaves_nothing(
    undisturbed: Path, small_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    filler = fill(small_disk)
    os.truncate(filler, filler.stat().st_size - 1_000_000)  # a tenth of what an export takes
    assert export(["--run", str(undisturbed / "runs" / "job"), "--out", str(small_disk / "model")]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"error: {small_disk} cannot be written: No space left on device")
    assert "make room" in said and "nothing was exported" in said and "Traceback" not in said
    assert {path.name for path in small_disk.iterdir()} == {"filler"}


def test_a_read_only_folder_is_refused_at_once(small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    assert start_search(small_disk.parent, *SMALL, "--name", "job").wait() == 2
    screen = read_screen(small_disk.parent)
    assert "cannot be written" in screen and str(small_disk) in screen

"""A disk that fills up, or that can only be read: one clear message, and the search goes on when there is room."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from searches import LIMIT_S, SMALL, describe_search, read_screen, start_search, wait_for_rows

pytestmark = pytest.mark.slow

SIZE_MB = 130


@pytest.fixture
def small_disk(work_folder: Path) -> Iterator[Path]:
    """The folder ``runs`` of a working directory, on a small file system of its own."""
    disk = work_folder / "runs"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m", "tmpfs", str(disk)]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("needs mount")
    if done.returncode:
        pytest.skip(f"needs the right to mount a file system: {done.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def fill(disk: Path) -> Path:
    """Fills what is left of a file system with one file, and returns it."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 65536)
        except OSError:
            return filler


def test_a_full_disk_stops_the_search_which_goes_on_later(undisturbed: Path, small_disk: Path) -> None:
    folder = small_disk.parent
    process = start_search(folder, *SMALL, "--name", "job")
    wait_for_rows(folder, process, 2)
    filler = fill(small_disk)
    assert process.wait() == 1, read_screen(folder)
    screen = read_screen(folder)
    assert "No space left on device" in screen and "make room" in screen and str(small_disk / "job") in screen
    assert screen.count("error:") == 1
    assert "Traceback" not in screen
    filler.unlink()
    assert start_search(folder, "--resume", "job").wait() == 0, read_screen(folder)
    assert describe_search(folder, "job") == describe_search(undisturbed, "job")


def test_an_export_that_finds_no_room_says_so_and_leaves_nothing(undisturbed: Path, small_disk: Path) -> None:
    filler = fill(small_disk)
    os.truncate(filler, filler.stat().st_size - 1_000_000)  # a tenth of what an export takes
    command = ["-m", "search.export", "--run", str(undisturbed / "runs" / "job"), "--out", str(small_disk / "model")]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=LIMIT_S)
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stderr.startswith(f"error: {small_disk} cannot be written: No space left on device")
    assert "make room" in done.stderr and "nothing was exported" in done.stderr and "Traceback" not in done.stderr
    assert {path.name for path in small_disk.iterdir()} == {"filler"}


def test_a_read_only_folder_is_refused_at_once(small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    assert start_search(small_disk.parent, *SMALL, "--name", "job").wait() == 2
    screen = read_screen(small_disk.parent)
    assert "cannot be written" in screen and str(small_disk) in screen

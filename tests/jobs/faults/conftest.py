"""A search that nobody disturbed, with which those that met a fault are compared; and a disk that can be filled."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from filelock import FileLock
from searches import SMALL, read_screen, start_search

SIZE_MB = 130


@pytest.fixture(scope="session")
def undisturbed(make_work_folder: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a search named ``job`` that ran to its end, one for all test processes; to be read, not changed."""
    base = tmp_path_factory.getbasetemp()
    note = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "undisturbed.txt"
    with FileLock(f"{note}.lock"):
        if not note.is_file():
            folder = make_work_folder("undisturbed")
            assert start_search(folder, *SMALL, "--name", "job").wait() == 0, read_screen(folder)
            note.write_text(str(folder))
    return Path(note.read_text())


@pytest.fixture
def limited_disk(work_folder: Path) -> Iterator[Path | None]:
    """The folder ``runs`` of a working directory, on a small file system of its own; None where none can be mounted."""
    disk = work_folder / "runs"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m", "tmpfs", str(disk)]
    try:
        is_mounted = subprocess.run(command, capture_output=True).returncode == 0
    except FileNotFoundError:
        is_mounted = False
    yield disk if is_mounted else None
    if is_mounted:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)

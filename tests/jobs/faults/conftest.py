"""A search that nobody disturbed, with which those that met a fault are compared."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock
from searches import SMALL, read_screen, start_search


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

"""A search that nobody disturbed, with which those that met a fault are compared."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from searches import LIMIT_S, SMALL, read_screen, start_search


@pytest.fixture(scope="session")
def undisturbed(make_work_folder: Callable[[str], Path]) -> Path:
    """A folder with a search named ``job`` that ran to its end; to be read, not changed."""
    folder = make_work_folder("undisturbed")
    assert start_search(folder, *SMALL, "--name", "job").wait(LIMIT_S) == 0, read_screen(folder)
    return folder

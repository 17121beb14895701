"""A search that nobody disturbed, with which those that met a fault are compared."""

from __future__ import annotations

from pathlib import Path

import pytest
from searches import LIMIT_S, SMALL, read_screen, start_search


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a search named ``job`` that ran to its end; to be read, not changed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    assert start_search(folder, *SMALL, "--name", "job").wait(LIMIT_S) == 0, read_screen(folder)
    return folder

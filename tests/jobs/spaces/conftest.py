"""Synthetic tissue for the trials of shipped spaces."""

from pathlib import Path

import pytest

from trainables.data.regions import read_regions
from trainables.data.store import RegionStore


@pytest.fixture(scope="module")
def store(small_root: Path, tmp_path_factory: pytest.TempPathFactory) -> RegionStore:
    """The small data set, decoded for nano."""
    return RegionStore.build(read_regions(small_root), 256, tmp_path_factory.mktemp("store"))

"""Two regions drawn by hand, for tests of scores."""

from collections.abc import Callable

import numpy as np
import pytest

from trainables.data.store import RegionStore


@pytest.fixture
def drawn(write_store: Callable[..., RegionStore]) -> RegionStore:
    """``a``: a block of tumor with a satellite, a bar of stroma, ignored pixels; ``b``: tumor alone."""
    a = np.zeros((40, 40), np.uint8)
    a[4:14, 4:14] = a[4:6, 30:40] = 1  # 100 and 20 pixels
    a[20:24] = 2
    a[30:] = 9
    b = np.zeros((30, 60), np.uint8)
    b[5:25, 10:50] = 1
    b[5:15, 10:30] = 0
    b[6:8, 12:14] = 1  # a part of its own, yet inside the other's box
    return write_store({"a": a, "b": b}, {1: "tumor", 2: "stroma"}, ignore=(9,), side=256)

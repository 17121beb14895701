import numpy as np
import pytest

from trainables.data.store import RegionStore


@pytest.fixture(scope="session")
def tissue(tissue_store: RegionStore) -> np.ndarray:
    """Made tissue as 8-bit RGB, with white background in a corner."""
    image = tissue_store.picture(0)
    image[:40, :60] = np.clip(image[:40, :60] // 16 + 235, 0, 255)
    return np.ascontiguousarray(image)

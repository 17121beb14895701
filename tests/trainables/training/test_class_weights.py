from collections.abc import Callable

import numpy as np
import pytest
import torch

from trainables.data.store import RegionStore
from trainables.training.class_weights import weigh_classes


@pytest.fixture
def bcss_like(write_store: Callable[..., RegionStore]) -> RegionStore:
    """One region of 100 x 100 px with BCSS's published pixel shares, and one of tumor alone."""
    shares = {1: 3380, 2: 2620, 4: 690, 3: 590, 18: 50}
    mask = np.zeros(10_000, np.uint8)
    mask[: sum(shares.values())] = np.repeat(list(shares), list(shares.values()))
    names = {1: "tumor", 2: "stroma", 3: "lymphocyte", 4: "necrosis", 18: "blood_vessel"}
    tumor = np.zeros((100, 100), np.uint8)
    tumor[:20] = 1
    return write_store({"all": mask.reshape(100, 100), "tumor": tumor}, names, ignore=(0,))


def test_full_strength_gives_the_recorded_class_weights_also_where_a_class_lacks(bcss_like: RegionStore) -> None:
    weights = weigh_classes(bcss_like, ["all.png"], 1.0)
    assert list(bcss_like.classes) == [1, 2, 3, 4, 18]
    assert (weights / weights[0]).tolist() == pytest.approx([1.0, 1.3, 5.7, 4.9, 67.6], rel=0.02)
    assert float(weights.mean()) == pytest.approx(1)
    weights = weigh_classes(bcss_like, ["tumor.png"], 1.0)
    assert float(weights[0]) == 1 and torch.isfinite(weights).all()


@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0])
def test_objects_weigh_1_on_average(bcss_like: RegionStore, strength: float) -> None:
    weights = weigh_classes(bcss_like, ["all.png", "tumor.png"], strength)
    objects = torch.tensor([2.0, 1, 1, 1, 1])
    assert float((weights * objects).sum() / objects.sum()) == pytest.approx(1)
    assert float(weights[4] / weights[0]) == pytest.approx((5380 / 50) ** strength, rel=1e-5)
    assert strength > 0 or weights.tolist() == [1, 1, 1, 1, 1]

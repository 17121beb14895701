import dataclasses
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest

from trainables.data.store import RegionStore
from trainables.evaluation.evaluation_set import EvaluationSet
from trainables.protocol.spec import PROTOCOLS


def test_ceiling_and_floor_by_hand(drawn: RegionStore) -> None:
    pairs = EvaluationSet(drawn, ["a.png", "b.png"], PROTOCOLS["box"]).plans
    # a, tumor: 100 of 120 pixels are prompted. b, tumor: 600 of 604 pixels, all of them in a box of 800.
    assert [pair.ceiling for pair in pairs[0].pairs] == pytest.approx([200 / 220, 1])
    assert [pair.floor for pair in pairs[0].pairs] == pytest.approx([200 / 220, 1])
    assert pairs[1].pairs[0].ceiling == 1 and pairs[1].pairs[0].floor == pytest.approx(1208 / 1404)


@pytest.mark.parametrize(("name", "ceiling"), [("recorded", 1200 / 1204), ("centroid", 1200 / 1204), ("box", 1)])
def test_only_a_box_reaches_parts_that_were_not_prompted(drawn: RegionStore, name: str, ceiling: float) -> None:
    (plan,) = EvaluationSet(drawn, ["b.png"], PROTOCOLS[name]).plans
    assert plan.pairs[0].ceiling == pytest.approx(ceiling)


def test_prompts_depend_on_seed_and_region_and_not_on_company(tissue_store: RegionStore) -> None:
    protocol = PROTOCOLS["points"]

    def list_points(names: list[str], seed: int = 0) -> list[list[list[float]]]:
        regions = EvaluationSet(tissue_store, names, dataclasses.replace(protocol, prompt_seed=seed))
        return [item.prompt.points.tolist() for item in regions.plans[-1].objects]

    alone = list_points(["r2.png"])
    assert alone == list_points(["r0.png", "r1.png", "r2.png"]) and alone != list_points(["r2.png"], seed=1)


@pytest.mark.parametrize("name", ["components", "recorded", "centroid", "points"])
def test_objects_cost_no_mask_of_the_region_each(write_store: Callable[..., RegionStore], name: str) -> None:
    lattice = np.kron(np.ones((50, 50), np.uint8), np.pad(np.ones((6, 6), np.uint8), 2))  # 2,500 squares
    store = write_store({"a": lattice}, {1: "nucleus"})
    protocol = dataclasses.replace(PROTOCOLS[name], components="every", min_component_px=16)
    tracemalloc.start()
    (plan,) = EvaluationSet(store, store.names, protocol).plans
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(plan.objects) == 2500
    assert peak < 30 * lattice.size

import dataclasses

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

import dataclasses
import tracemalloc
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from trainables.data.store import RegionStore
from trainables.evaluation.evaluation_set import EvaluationSet, RegionPlan, TilePlan
from trainables.evaluation.evaluator import collect_scores
from trainables.protocol.components import fill_boxes, unite
from trainables.protocol.spec import PROTOCOLS, add_tiles, find_components
from trainables.tiles.grid import Tiles


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


def test_prompts_depend_on_the_region_and_not_on_company(tissue_store: RegionStore) -> None:
    def list_points(names: list[str]) -> list[list[list[float]]]:
        regions = EvaluationSet(tissue_store, names, PROTOCOLS["points"])
        return [item.prompt.points.tolist() for item in regions.plans[-1].objects]

    assert list_points(["r2.png"]) == list_points(["r0.png", "r1.png", "r2.png"])


def test_the_same_tissue_under_another_name_has_other_points(write_store: Callable[..., RegionStore]) -> None:
    tissue = np.pad(np.ones((60, 60), np.uint8), 2)
    store = write_store({"a": tissue, "b": tissue}, {1: "tumor"})
    one, other = EvaluationSet(store, store.names, PROTOCOLS["points"]).plans
    assert one.objects[0].prompt.points.tolist() != other.objects[0].prompt.points.tolist()


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


@pytest.mark.parametrize("name", ["box", "recorded", "components", "auto"])
@pytest.mark.parametrize("overlap", [0.0, 0.5])
def test_perfect_tiles_join_to_the_ceiling_and_their_boxes_to_the_floor(
    tiled_store: RegionStore, name: str, overlap: float
) -> None:
    regions = EvaluationSet(tiled_store, tiled_store.names, add_tiles(PROTOCOLS[name], Tiles(64, overlap=overlap)))
    assert all(len(plan.tiles) > 4 for plan in regions.plans)

    def answer(kind: str) -> Iterator[tuple[RegionPlan, list[np.ndarray]]]:
        for plan in regions.plans:
            yield plan, regions.join(plan, (answer_tile(plan, part, kind) for part in plan.tiles))

    def answer_tile(plan: RegionPlan, part: TilePlan, kind: str) -> list[np.ndarray]:
        seen = tiled_store.mask(plan.index)[part.tile.window.slices]
        masks = []
        for number, pair in enumerate(plan.pairs):
            shown = regions.find_class(seen, pair.class_id)
            components = find_components(shown, regions.protocol) if number in part.pairs else []
            if regions.protocol.is_auto:
                masks.append(shown)
            elif not components:
                masks.append(np.zeros_like(shown))
            elif kind == "boxes":
                masks.append(fill_boxes(components))
            else:
                whole = unite(components) if regions.protocol.keep_largest else shown & fill_boxes(components)
                masks.append(whole)
        return masks

    perfect = collect_scores(regions, answer("best"))
    if regions.protocol.is_auto:
        assert perfect.dice == 1
    else:
        boxes = collect_scores(regions, answer("boxes"))
        assert [pair.dice for pair in perfect.pairs] == [pair.ceiling for pair in perfect.pairs]
        assert [pair.dice for pair in boxes.pairs] == [pair.floor for pair in boxes.pairs]
    # The counts are those of the whole regions, whatever the tiles.
    for pair in perfect.compared:
        index = tiled_store.index(pair.file)
        found = {regions.find_name(plan.class_id): plan.class_id for plan in regions.plans[index].pairs}
        assert pair.overlap.actual == regions.find_class(tiled_store.mask(index), found[pair.class_name]).sum()


def test_tiles_draw_prompts_of_their_own(tiled_store: RegionStore) -> None:
    (plan,) = EvaluationSet(tiled_store, ["r0.png"], add_tiles(PROTOCOLS["recorded"], Tiles(64))).plans
    assert len(plan.tiles) == 9 < len(plan.objects)
    for part in plan.tiles:
        height, width = part.tile.window.size
        for item in part.objects:
            assert (item.prompt.points >= 0).all() and (item.prompt.points < (width, height)).all()
            assert item.scale == (4, 4)


def test_tiles_without_pixels_that_count_are_left_out(write_store: Callable[..., RegionStore]) -> None:
    mask = np.full((40, 400), 9, np.uint8)
    mask[:, :100] = 1
    store = write_store({"a": mask}, {1: "tumor"}, ignore=(9,), for_tiles=True)
    for name, n_tiles in (("auto", 3), ("box", 3)):
        (plan,) = EvaluationSet(store, store.names, add_tiles(PROTOCOLS[name], Tiles(40, overlap=0))).plans
        assert len(plan.tiles) == n_tiles

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from sam2.modeling.sam2_base import SAM2Base

import trainables.evaluation.evaluator
from trainables.data.images import read_image, read_mask
from trainables.data.regions import RegionSet
from trainables.data.store import RegionStore
from trainables.errors import DataError
from trainables.evaluation.evaluation_set import EvaluationSet, RegionPlan
from trainables.evaluation.evaluator import collect_scores, evaluate, predict_masks
from trainables.model.class_prompts import attach_class_prompts, start_class_prompts
from trainables.model.weights import load_model
from trainables.protocol.components import fill_boxes, unite
from trainables.protocol.overlap import Overlap
from trainables.protocol.spec import PROTOCOLS, add_tiles, find_components
from trainables.tiles.grid import Tiles

CPU = torch.device("cpu")
BOX = PROTOCOLS["box"]
CLASSES = {1: "tumor", 2: "stroma"}


def answer(regions: EvaluationSet, kind: str) -> Iterator[tuple[RegionPlan, list[np.ndarray]]]:
    """Masks that need no model: the prompted components, their boxes, the class in them, all or nothing."""
    for plan in regions.plans:
        mask = regions.store.mask(plan.index)
        masks = []
        for pair in plan.pairs:
            parts = find_components(mask == pair.class_id, regions.protocol)
            boxes = fill_boxes(parts)
            shapes = {
                "components": unite(parts),
                "boxes": boxes,
                "class in boxes": boxes & (mask == pair.class_id),
                "everything": np.ones(mask.shape, bool),
                "nothing": np.zeros(mask.shape, bool),
            }
            masks.append(shapes[kind])
        yield plan, masks


@pytest.mark.parametrize(
    ("name", "best"),
    [
        *(("box", "class in boxes"), ("box-neg", "class in boxes"), ("components", "class in boxes")),
        *(("recorded", "components"), ("centroid", "components"), ("points", "components")),
    ],
)
def test_perfect_answers_score_the_ceiling_and_filled_boxes_the_floor(drawn: RegionStore, name: str, best: str) -> None:
    regions = EvaluationSet(drawn, drawn.names, PROTOCOLS[name])
    perfect = collect_scores(regions, answer(regions, best))
    boxes = collect_scores(regions, answer(regions, "boxes"))
    assert [pair.dice for pair in perfect.pairs] == [pair.ceiling for pair in perfect.pairs]
    assert [pair.dice for pair in boxes.pairs] == [pair.floor for pair in boxes.pairs]
    assert perfect.dice == pytest.approx(perfect.ceiling) and boxes.dice == pytest.approx(boxes.floor)


@pytest.mark.parametrize("name", ["box", "box-neg", "components"])
def test_no_mask_inside_the_boxes_beats_the_ceiling(drawn: RegionStore, tissue_store: RegionStore, name: str) -> None:
    rng = np.random.default_rng(0)

    def draw(regions: EvaluationSet) -> Iterator[tuple[RegionPlan, list[np.ndarray]]]:
        """Subsets of the boxes: some pixels of the class kept, some others added."""
        best = {plan.index: masks for plan, masks in answer(regions, "class in boxes")}
        for plan, boxes in answer(regions, "boxes"):
            kept, added = rng.choice([0.0, 0.01, 0.5, 0.99, 1.0], 2)
            masks = [
                box & np.where(inside, rng.random(box.shape) < kept, rng.random(box.shape) < added)
                for box, inside in zip(boxes, best[plan.index], strict=True)
            ]
            yield plan, masks

    for store in (drawn, tissue_store):
        regions = EvaluationSet(store, store.names, PROTOCOLS[name])
        for _ in range(25):
            assert all(pair.dice <= pair.ceiling + 1e-12 for pair in collect_scores(regions, draw(regions)).pairs)


def test_a_class_that_a_region_lacks_makes_no_pair(drawn: RegionStore) -> None:
    regions = EvaluationSet(drawn, ["b.png", "a.png"], BOX)
    pairs = collect_scores(regions, answer(regions, "nothing")).pairs
    assert [(pair.file, pair.class_name, pair.dice) for pair in pairs] == [
        ("b.png", "tumor", 0),
        ("a.png", "tumor", 0),
        ("a.png", "stroma", 0),
    ]


def test_ignored_ids_do_not_count(drawn: RegionStore) -> None:
    regions = EvaluationSet(drawn, ["a.png"], BOX)
    first = collect_scores(regions, answer(regions, "everything")).pairs[0]
    assert first.overlap == Overlap(shared=120, predicted=1200, actual=120)


def test_nothing_to_score_is_an_error(write_store: Callable[..., RegionStore]) -> None:
    mask = np.zeros((20, 20), np.uint8)
    mask[:2, :3] = 1
    store = write_store({"a": mask}, CLASSES)
    regions = EvaluationSet(store, store.names, PROTOCOLS["components"])  # 6 pixels are too few for it
    with pytest.raises(DataError, match="no region to score"):
        collect_scores(regions, answer(regions, "nothing"))


def list_masks(model: SAM2Base, regions: EvaluationSet, regions_per_pass: int = 4) -> list[np.ndarray]:
    return [np.stack(masks) for _, masks in predict_masks(model, regions, CPU, regions_per_pass)]


def list_overlaps(model: SAM2Base, regions: EvaluationSet) -> list[Overlap]:
    return [pair.overlap for pair in evaluate(model, regions, CPU).pairs]


@pytest.fixture(scope="module")
def named_nano(tissue_store: RegionStore) -> SAM2Base:
    """Nano with untrained class prompts, which protocol auto asks and all others leave alone."""
    model = load_model("nano", None)
    attach_class_prompts(model, start_class_prompts(model, len(tissue_store.classes), 2, seed=0))
    return model


@pytest.mark.parametrize("protocol", ["components", "auto"])
def test_logits_that_are_handed_out_are_those_of_the_masks(
    named_nano: SAM2Base, tissue_store: RegionStore, protocol: str
) -> None:
    kept: list[tuple[RegionPlan, torch.Tensor]] = []
    # Without clean-up maps and masks are one answer.
    plain = dataclasses.replace(PROTOCOLS[protocol], keep_largest=False, closing_px=0)
    regions = EvaluationSet(tissue_store, ["r0.png", "r1.png"], plain)
    found = list(predict_masks(named_nano, regions, CPU, on_logits=lambda plan, _, maps: kept.append((plan, maps))))
    assert [plan for plan, _ in kept] == [plan for plan, _ in found]
    for (_, maps), (_, masks) in zip(kept, found, strict=True):
        shown = torch.nn.functional.interpolate(maps[None], (160, 160), mode="bilinear")[0].numpy()
        ours = shown == shown.max(axis=0) if plain.is_auto else shown > plain.threshold
        assert (ours == np.stack(masks)).mean() > 0.99
        if plain.is_auto:
            assert torch.allclose(maps.sigmoid().sum(0), torch.ones(64, 64), atol=1e-5)


SCORE_AFRESH = """
import json, sys, torch
from pathlib import Path
from trainables.model.weights import load_model
from trainables.data.store import RegionStore
from trainables.evaluation.evaluation_set import EvaluationSet
from trainables.evaluation.evaluator import evaluate
from trainables.model.class_prompts import attach_class_prompts, start_class_prompts
from trainables.protocol.spec import PROTOCOLS

torch.set_num_threads(int(sys.argv[2]))
store, nano, found = RegionStore(Path(sys.argv[1])), load_model("nano", None), {}
attach_class_prompts(nano, start_class_prompts(nano, len(store.classes), 2, seed=0))
for name, protocol in PROTOCOLS.items():
    scores = evaluate(nano, EvaluationSet(store, store.names[:2], protocol), torch.device("cpu"))
    found[name] = [pair.overlap for pair in scores.pairs]
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def scored_afresh(tissue_store: RegionStore) -> dict[str, list[Overlap]]:
    """Overlaps of nano under every named protocol, counted by another process."""
    command = [sys.executable, "-c", SCORE_AFRESH, str(tissue_store.folder), str(torch.get_num_threads())]
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True, timeout=120)
    return {name: [Overlap(*one) for one in found] for name, found in json.loads(done.stdout).items()}


@pytest.mark.parametrize("name", sorted(PROTOCOLS))
def test_every_named_protocol_is_bit_repeatable(
    named_nano: SAM2Base, tissue_store: RegionStore, scored_afresh: dict[str, list[Overlap]], name: str
) -> None:
    regions = EvaluationSet(tissue_store, tissue_store.names[:2], PROTOCOLS[name])
    counted = list_overlaps(named_nano, regions)
    assert any(overlap.shared for overlap in counted)
    assert counted == list_overlaps(named_nano, regions) == scored_afresh[name]


@pytest.mark.parametrize("tta", [("identity",), ("vflip",), ("identity", "rot90", "hflip")])
def test_a_region_is_encoded_once_a_view(nano: SAM2Base, tissue_store: RegionStore, tta: tuple[str, ...]) -> None:
    seen = 0

    def count(module: torch.nn.Module, arguments: tuple[torch.Tensor]) -> None:
        nonlocal seen
        seen += len(arguments[0])

    regions = EvaluationSet(tissue_store, tissue_store.names, dataclasses.replace(BOX, tta=tta))
    hook = nano.image_encoder.register_forward_pre_hook(count)
    try:
        list_masks(nano, regions)
    finally:
        hook.remove()
    assert seen == len(tissue_store.names) * len(tta)


@pytest.mark.parametrize("tta", [("identity",), ("identity", "rot90")])
def test_masks_have_their_region_s_size(nano: SAM2Base, drawn: RegionStore, tta: tuple[str, ...]) -> None:
    masks = list_masks(nano, EvaluationSet(drawn, drawn.names, dataclasses.replace(BOX, tta=tta)))
    assert [one.shape for one in masks] == [(2, 40, 40), (1, 30, 60)]


@pytest.mark.parametrize("regions_per_pass", [1, 2, 100])
def test_regions_per_pass_change_no_mask(nano: SAM2Base, tissue_store: RegionStore, regions_per_pass: int) -> None:
    regions = EvaluationSet(tissue_store, tissue_store.names, PROTOCOLS["recorded"])
    for one, other in zip(list_masks(nano, regions), list_masks(nano, regions, regions_per_pass), strict=True):
        # Batched convolutions add in another order: a pixel on the threshold may turn.
        assert (one != other).mean() < 1e-4


def test_chunks_are_decoded_alike(nano: SAM2Base, tissue_store: RegionStore, monkeypatch: pytest.MonkeyPatch) -> None:
    regions = EvaluationSet(tissue_store, ["r0.png", "r1.png"], PROTOCOLS["components"])
    assert max(len(plan.objects) for plan in regions.plans) > 2
    whole = list_masks(nano, regions)
    monkeypatch.setattr(trainables.evaluation.evaluator, "MAX_OBJECTS_PER_PASS", 2)
    for one, other in zip(whole, list_masks(nano, regions), strict=True):
        assert (one != other).mean() < 1e-4


@pytest.mark.parametrize("training", [True, False])
def test_the_model_gets_its_mode_back_and_gradients_stay_on_for_others(
    nano: SAM2Base, tissue_store: RegionStore, training: bool
) -> None:
    nano.train(training)
    try:
        for _ in predict_masks(nano, EvaluationSet(tissue_store, ["r0.png"], BOX), CPU):
            assert not nano.training and torch.is_grad_enabled()
        assert nano.training is training
    finally:
        nano.eval()


def test_evaluate_scores_every_pair(nano: SAM2Base, tissue_store: RegionStore) -> None:
    regions = EvaluationSet(tissue_store, tissue_store.names, PROTOCOLS["recorded"])
    scores = evaluate(nano, regions, CPU)
    present = tissue_store.class_presence()
    assert len(scores.pairs) == sum(len(ids) for ids in present.values())
    assert 0 < scores.iou < scores.dice < scores.ceiling <= 1


@pytest.mark.parametrize("protocol", ["box", "auto"])
def test_tiles_are_answered_as_regions_of_their_own_and_joined(
    named_nano: SAM2Base,
    tiled_store: RegionStore,
    tissue_root: Path,
    write_regions: Callable[..., RegionSet],
    tmp_path: Path,
    protocol: str,
) -> None:
    tiled = EvaluationSet(tiled_store, ["r1.png"], add_tiles(PROTOCOLS[protocol], Tiles(100, overlap=0.3)))
    ((plan, joined),) = predict_masks(named_nano, tiled, CPU, regions_per_pass=1)
    assert len(plan.tiles) == 4 and len(plan.pairs) > 1
    image, mask = read_image(tissue_root / "images" / "r1.png"), read_mask(tissue_root / "masks" / "r1.png")
    windows = {f"{number}.png": part.tile.window for number, part in enumerate(plan.tiles)}
    regions = write_regions(
        tmp_path / "cut",
        {name: np.ascontiguousarray(mask[window.slices]) for name, window in windows.items()},
        {name: np.ascontiguousarray(image[window.slices]) for name, window in windows.items()},
        (tissue_root / "dataset.yaml").read_text(),
    )
    store = RegionStore.build(regions, 256, tmp_path)
    alone = EvaluationSet(store, store.names, PROTOCOLS[protocol])
    for part, (own, masks) in zip(plan.tiles, predict_masks(named_nano, alone, CPU, regions_per_pass=1), strict=True):
        core = part.tile.core
        by_class = {pair.class_id: found for pair, found in zip(own.pairs, masks, strict=True)}
        for pair, whole in zip(plan.pairs, joined, strict=True):
            expected = by_class.get(pair.class_id, np.zeros(part.tile.window.size, bool))
            np.testing.assert_array_equal(whole[core.slices], expected[core.shift(part.tile.window).slices])


@pytest.mark.parametrize("protocol", ["recorded-tta", "auto"])
def test_regions_of_about_a_tiles_size_are_scored_bit_for_bit_as_without_tiles(
    named_nano: SAM2Base, tissue_store: RegionStore, tiled_store: RegionStore, protocol: str
) -> None:
    plain = evaluate(named_nano, EvaluationSet(tissue_store, ["r0.png", "r1.png"], PROTOCOLS[protocol]), CPU)
    tiles = add_tiles(PROTOCOLS[protocol], Tiles(140))
    assert evaluate(named_nano, EvaluationSet(tiled_store, ["r0.png", "r1.png"], tiles), CPU).pairs == plain.pairs

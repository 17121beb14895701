import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from trainables.data.store import RegionStore
from trainables.evaluation.evaluation_set import EvaluationSet
from trainables.evaluation.evaluator import collect_scores, evaluate
from trainables.evaluation.semantic_masks import name_pixels
from trainables.model.class_prompts import attach_class_prompts, start_class_prompts
from trainables.model.weights import load_model
from trainables.protocol.background import BACKGROUND_ID
from trainables.protocol.overlap import Overlap
from trainables.protocol.spec import PROTOCOLS

AUTO = PROTOCOLS["auto"]
CLASSES = {1: "tumor", 2: "stroma", 5: "vessel"}


@pytest.fixture
def store(write_store: Callable[..., RegionStore]) -> RegionStore:
    """``a``: 8 rows of tumor, 4 of stroma, 4 of no class. ``b``: half ignored, half tumor. No region shows a vessel."""
    a = np.full((16, 16), 9, np.uint8)
    a[:8], a[8:12] = 1, 2
    b = np.zeros((16, 16), np.uint8)
    b[:8] = 1
    return write_store({"a": a, "b": b}, CLASSES, ignore=(0,))


def test_pixels_get_the_name_of_the_greatest_logit_as_torch_would_interpolate() -> None:
    logits = torch.randn(5, 16, 16, generator=torch.Generator().manual_seed(0))
    named = name_pixels(logits.numpy(), (50, 41))
    full = F.interpolate(logits[None], (50, 41), mode="bilinear", align_corners=False)[0]
    assert named.dtype == np.uint8
    assert float((torch.from_numpy(named).long() == full.argmax(0)).float().mean()) > 0.999
    assert not name_pixels(np.zeros((3, 4, 4), np.float32), (9, 9)).any()  # the first of equals


def test_every_class_and_background_is_planned_in_every_region(store: RegionStore) -> None:
    regions = EvaluationSet(store, store.names, AUTO)
    for plan in regions.plans:
        assert [pair.class_id for pair in plan.pairs] == [*CLASSES, BACKGROUND_ID] and not plan.objects
    assert regions.find_name(BACKGROUND_ID) == "background" and regions.find_name(5) == "vessel"
    mask = regions.store.mask(1)
    assert not regions.find_class(mask, BACKGROUND_ID).any()  # ignored is not background
    assert int(regions.find_class(regions.store.mask(0), BACKGROUND_ID).sum()) == 64


def test_counts_are_pooled_over_regions_and_classes_that_none_shows_are_left_out(store: RegionStore) -> None:
    regions = EvaluationSet(store, store.names, AUTO)
    everything, nothing = np.ones((16, 16), bool), np.zeros((16, 16), bool)
    # Region a all tumor, region b all stroma, which is not there.
    answers = [[everything, nothing, nothing, nothing], [nothing, everything, nothing, nothing]]
    scores = collect_scores(regions, zip(regions.plans, answers, strict=True))
    assert len(scores.pairs) == 8
    tumor, stroma = 2 * 128 / (256 + 256), 0.0
    assert scores.per_class() == {"tumor": tumor, "stroma": stroma, "background": 0.0}
    assert scores.dice == pytest.approx(tumor / 3)
    assert scores.to_flat()["iou/tumor"] == pytest.approx(128 / 384)
    compared = [(pair.file, pair.class_name) for pair in scores.compared]
    assert compared == [("a.png", "tumor"), ("a.png", "stroma"), ("a.png", "background"), ("b.png", "tumor")]
    # What is seen where it is not costs in the pool.
    assert scores.pairs[5].overlap == Overlap(0, 128, 0)


def test_the_truth_scores_1_and_a_constant_answer_the_floor(store: RegionStore) -> None:
    regions = EvaluationSet(store, store.names, AUTO, train=["a.png"])
    truth = [
        [regions.find_class(regions.store.mask(p.index), pair.class_id) for pair in p.pairs] for p in regions.plans
    ]
    scores = collect_scores(regions, zip(regions.plans, truth, strict=True))
    assert scores.dice == scores.iou == scores.ceiling == 1
    constant = [[np.full((16, 16), pair.class_id == 1) for pair in plan.pairs] for plan in regions.plans]
    found = collect_scores(regions, zip(regions.plans, constant, strict=True))
    assert found.dice == pytest.approx(found.floor) == pytest.approx(scores.floor)
    assert found.floor == pytest.approx(2 * 256 / (256 + 384) / 3)


def test_the_constant_answer_is_training_s_most_frequent_class(write_store: Callable[..., RegionStore]) -> None:
    masks = {"val": np.full((16, 16), 1, np.uint8), "train": np.full((16, 16), 2, np.uint8)}
    store = write_store(masks, {1: "tumor", 2: "stroma"})
    floors = [
        [pair.floor for pair in EvaluationSet(store, ["val.png"], AUTO, train).plans[0].pairs]
        for train in ((), ("train.png",))
    ]
    assert floors == [[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]


@pytest.mark.parametrize("tta", [("identity",), ("identity", "rot90")])
def test_a_model_names_each_pixel_once(tissue_store: RegionStore, tta: tuple[str, ...]) -> None:
    nano = load_model("nano", None)
    attach_class_prompts(nano, start_class_prompts(nano, len(tissue_store.classes), 1, seed=0))
    protocol = dataclasses.replace(AUTO, tta=tta)
    regions = EvaluationSet(tissue_store, tissue_store.names[:2], protocol)
    scores = evaluate(nano, regions, torch.device("cpu"))
    for name in tissue_store.names[:2]:
        predicted = sum(pair.overlap.predicted for pair in scores.pairs if pair.file == name)
        actual = sum(pair.overlap.actual for pair in scores.pairs if pair.file == name)
        assert predicted == actual == 160 * 160
    assert 0 < scores.dice < 0.6

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from sam2.modeling.sam2_base import SAM2Base
from small_sam2 import build_bare

from trainables.data.images import read_image
from trainables.data.regions import read_regions
from trainables.data.store import RegionStore
from trainables.evaluation.evaluation_set import EvaluationSet
from trainables.evaluation.evaluator import collect_scores, evaluate, predict_masks
from trainables.evaluation.stock_predictor import build_predictor, predict_prompt_by_prompt, use_predictor
from trainables.model.build import MODELS, build_architecture
from trainables.protocol.components import BoolMask
from trainables.protocol.prompts import PROMPT_KINDS
from trainables.protocol.spec import PROTOCOLS, Protocol
from trainables.protocol.tta import VIEWS

CPU = torch.device("cpu")
MORE_PROTOCOLS = (
    Protocol("threshold", PROMPT_KINDS["box-neg"], threshold=0.05),
    Protocol("points-tta", PROMPT_KINDS["points"], tta=("rot270", "antitranspose")),
)


def compute_iou(first: BoolMask, second: BoolMask) -> float:
    return float((first & second).sum() / (first | second).sum())


def compare(model: SAM2Base, regions: EvaluationSet, root: Path) -> list[float]:
    """IoU of each predicted mask with the stock predictor's; masks that both leave empty are not counted."""
    prompted = use_predictor(model, CPU)
    stock = predict_prompt_by_prompt(prompted, regions, lambda name: read_image(root / "images" / name))
    ious = []
    for (plan, masks), (stock_plan, stock_masks) in zip(
        predict_masks(model, regions, CPU, regions_per_pass=3), stock, strict=True
    ):
        assert plan is stock_plan
        assert all(mask.shape == regions.store.size(plan.index) for mask in masks)
        pairs = zip(masks, stock_masks, strict=True)
        ious += [compute_iou(mask, stock_mask) for mask, stock_mask in pairs if mask.any() or stock_mask.any()]
    return ious


# Without prompts there is nothing that the stock predictor could be asked.
PROMPTED = [protocol for protocol in (*PROTOCOLS.values(), *MORE_PROTOCOLS) if not protocol.is_auto]


def check_masks(model: SAM2Base, store: RegionStore, root: Path, protocol: Protocol, n_regions: int) -> None:
    ious = compare(model, EvaluationSet(store, store.names[:n_regions], protocol), root)
    assert len(ious) >= 4 and min(ious) >= 0.999


@pytest.mark.parametrize("protocol", PROMPTED, ids=lambda one: one.name)
def test_the_evaluator_gives_the_stock_predictor_s_masks(
    nano: SAM2Base, tissue_store: RegionStore, tissue_root: Path, protocol: Protocol
) -> None:
    n_regions = 4 if len(protocol.tta) == 1 else 2  # what costs time is the encodings
    check_masks(nano, tissue_store, tissue_root, protocol, n_regions)


@pytest.mark.parametrize("name", ["box", "recorded-tta"])
def test_those_of_a_stock_model_with_random_weights_too(
    tissue_store: RegionStore, tissue_root: Path, name: str
) -> None:
    check_masks(build_bare("tiny", 256), tissue_store, tissue_root, PROTOCOLS[name], 2)


@pytest.mark.parametrize("view", VIEWS)
def test_views_of_a_region_that_is_not_square_agree_too(
    nano: SAM2Base, write_store: Callable[..., RegionStore], tmp_path: Path, view: str
) -> None:
    mask = np.zeros((60, 110), np.uint8)
    mask[10:30, 20:90] = mask[20:50, 20:40] = 1
    mask[40:56, 60:100] = 2
    store = write_store({"a": mask}, {1: "tumor", 2: "stroma"}, side=256)
    protocol = Protocol("view", PROMPT_KINDS["box-neg"], tta=(view,))
    regions = EvaluationSet(store, store.names, protocol)
    ious = compare(nano, regions, tmp_path / "drawn")
    assert len(ious) == 2 and min(ious) >= 0.999


def test_the_evaluator_gives_the_stock_masks_of_real_tissue(nano: SAM2Base, shared_data: Path, tmp_path: Path) -> None:
    root = shared_data / "he_nuclei"
    every = read_regions(root)
    chosen = (*every.regions[:3], every.regions[-1])
    store = RegionStore.build(dataclasses.replace(every, regions=chosen), 256, tmp_path)
    regions = EvaluationSet(store, store.names, PROTOCOLS["components"])
    images = {region.name: region.image for region in chosen}
    stock = predict_prompt_by_prompt(use_predictor(nano, CPU), regions, lambda name: read_image(images[name]))
    for (_, masks), (_, stock_masks) in zip(predict_masks(nano, regions, CPU), stock, strict=True):
        for mask, stock_mask in zip(masks, stock_masks, strict=True):
            assert mask.any() and compute_iou(mask, stock_mask) >= 0.999


def test_scores_through_the_stock_predictor_agree(nano: SAM2Base, tissue_store: RegionStore, tissue_root: Path) -> None:
    regions = EvaluationSet(tissue_store, tissue_store.names, PROTOCOLS["recorded"])
    scores = evaluate(nano, regions, CPU)
    images = tissue_root / "images"
    answers = predict_prompt_by_prompt(use_predictor(nano, CPU), regions, lambda name: read_image(images / name))
    stock = collect_scores(regions, answers)
    assert [(pair.file, pair.class_name) for pair in stock.pairs] == [
        (pair.file, pair.class_name) for pair in scores.pairs
    ]
    assert stock.dice == pytest.approx(scores.dice, abs=1e-4)
    assert stock.iou == pytest.approx(scores.iou, abs=1e-4)


@pytest.mark.parametrize("side", [128, 256])
def test_build_predictor_fits_the_model_s_image_size(side: int) -> None:
    predictor = build_predictor(build_architecture(MODELS["nano"], side))
    predictor.set_image(np.zeros((50, 80, 3), np.uint8))
    masks, _, low_res = predictor.predict(box=np.array([5, 5, 30, 40]))
    assert masks.shape == (3, 50, 80) and low_res.shape == (3, side // 4, side // 4)

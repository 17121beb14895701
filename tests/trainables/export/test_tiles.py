from pathlib import Path

import numpy as np
import pytest
import torch
from sam2.modeling.sam2_base import SAM2Base

from trainables.data.images import read_image
from trainables.data.store import RegionStore
from trainables.evaluation.evaluation_set import EvaluationSet
from trainables.evaluation.evaluator import predict_masks
from trainables.export.tiles import OVERLAP, make_window, place_tiles, segment_image
from trainables.model.class_prompts import attach_class_prompts, start_class_prompts
from trainables.model.weights import load_model
from trainables.protocol.spec import PROTOCOLS

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def nano() -> SAM2Base:
    model = load_model("nano", None)
    attach_class_prompts(model, start_class_prompts(model, 5, 1, seed=0))
    return model


@pytest.mark.parametrize(
    ("size", "tile"), [(160, 160), (161, 160), (200, 160), (321, 160), (1000, 37), (64, 64), (9, 8)]
)
def test_tiles_cover_an_axis_and_overlap(size: int, tile: int) -> None:
    side = 64
    places = place_tiles(size, tile, side)
    assert places[0] == 0 and (places[-1] + side) * tile / side == pytest.approx(size, abs=0.51 * tile / side)
    gaps = np.diff(places)
    assert len(places) == 1 or (gaps > 0).all() or size - tile < tile / side
    assert not len(gaps) or gaps.max() <= side * (1 - OVERLAP) + 1


def test_a_window_is_greatest_in_the_middle_and_never_nothing() -> None:
    window = make_window(64)
    assert window.max() <= 1 and window.min() > 0
    assert window[32, 32] == window.max() and np.allclose(window, window[::-1, ::-1].T)


def test_one_tile_is_what_the_evaluator_predicts(nano: SAM2Base, tissue_store: RegionStore, tissue_root: Path) -> None:
    regions = EvaluationSet(tissue_store, ["r0.png"], PROTOCOLS["auto"])
    ((_, masks),) = predict_masks(nano, regions, CPU)
    image = read_image(tissue_root / "images" / "r0.png")
    named = segment_image(nano, image, (160, 160), CPU)
    assert float((named == np.stack(masks).argmax(axis=0)).mean()) > 0.999


@pytest.mark.parametrize("shape", [(250, 160), (100, 140), (160, 321), (1, 1), (170, 166)])
def test_images_of_any_size_are_named_whole(nano: SAM2Base, tissue_root: Path, shape: tuple[int, int]) -> None:
    image = np.tile(read_image(tissue_root / "images" / "r1.png"), (3, 3, 1))[: shape[0], : shape[1]]
    before = image.copy()
    named = segment_image(nano, image, (160, 160), CPU)
    assert named.shape == shape and named.dtype == np.uint8 and named.max() < 6
    assert np.array_equal(image, before)


def test_tiles_are_seen_at_the_scale_of_training(nano: SAM2Base, tissue_root: Path) -> None:
    """A region amid a larger image is named, away from its rim, much as it is alone."""
    image = read_image(tissue_root / "images" / "r2.png")
    alone = segment_image(nano, image, (160, 160), CPU)
    amid = segment_image(nano, np.pad(image, ((0, 0), (0, 160), (0, 0)), mode="symmetric"), (160, 160), CPU)
    middle = slice(20, 140), slice(0, 120)
    assert float((alone[middle] == amid[:, :160][middle]).mean()) > 0.85

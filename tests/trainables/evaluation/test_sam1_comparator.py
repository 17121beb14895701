import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from trainables.data.images import read_image
from trainables.data.store import RegionStore
from trainables.evaluation.evaluation_set import EvaluationSet
from trainables.evaluation.sam1_comparator import predict_prompt, predict_sam1, score_sam1, stretch_image
from trainables.evaluation.sam1_weights import STYLES, Sam1Model, load_sam1
from trainables.protocol.prompts import PROMPT_KINDS, Prompt
from trainables.protocol.spec import PROTOCOLS, Protocol, ProtocolMismatch
from trainables.protocol.tta import VIEWS

segment_anything = pytest.importorskip("segment_anything", reason="needs the package segment-anything")

CPU = torch.device("cpu")
Read = Callable[[str], np.ndarray]
Draw = Callable[[tuple[int, int], Protocol], tuple[EvaluationSet, Read]]


@pytest.fixture(scope="module", params=["sam", "medsam"])
def model(request: pytest.FixtureRequest, tiny_sam1_file: Path) -> Sam1Model:
    return load_sam1(tiny_sam1_file, STYLES[request.param])


@pytest.fixture(scope="module")
def sam(tiny_sam1_file: Path) -> Sam1Model:
    return load_sam1(tiny_sam1_file, STYLES["sam"])


@pytest.fixture
def draw(write_store: Callable[..., RegionStore], tmp_path: Path) -> Draw:
    """Draws one region of some height and width; returns it under a protocol, and a reader of its image."""

    def make(size: tuple[int, int], protocol: Protocol) -> tuple[EvaluationSet, Read]:
        mask = np.zeros(size, np.uint8)
        mask[10:30, 20:50] = mask[20:50, 20:40] = 1
        mask[40:56, 30:58] = 2
        store = write_store({"a": mask}, {1: "tumor", 2: "stroma"}, side=64)
        return EvaluationSet(store, store.names, protocol), read_from(tmp_path / "drawn" / "images")

    return make


def read_from(folder: Path) -> Read:
    return lambda name: read_image(folder / name)


def predict_by_hand(model: Sam1Model, regions: EvaluationSet, image: np.ndarray) -> list[np.ndarray]:
    """What the package's own predictor says of the one region, without views, of the size it is scored at."""
    predictor = segment_anything.SamPredictor(model.network)
    predictor.set_image(image)
    plan = regions.plans[0]
    masks = [np.zeros(image.shape[:2], bool) for _ in plan.pairs]
    for item in plan.objects:
        points, labels = item.prompt
        box = points[:2].reshape(4) if labels[0] == 2 else None
        rest = slice(0 if box is None else 2, None)
        has_points = len(labels[rest]) > 0
        found, iou, _ = predictor.predict(
            points[rest] if has_points else None,
            labels[rest] if has_points else None,
            box,
            multimask_output=not model.style.single_mask,
        )
        masks[item.pair] |= found[iou.argmax()]
    return masks


@pytest.mark.parametrize("size", [(60, 110), (110, 60), (300, 280)])
@pytest.mark.parametrize("prompt", ["box", "box-neg", "centroid", "points"])
@pytest.mark.parametrize("single_mask", [False, True])
def test_masks_are_those_of_the_package_s_own_predictor(
    sam: Sam1Model, draw: Draw, size: tuple[int, int], prompt: str, single_mask: bool
) -> None:
    sam = dataclasses.replace(sam, style=dataclasses.replace(sam.style, single_mask=single_mask))
    regions, read = draw(size, Protocol("p", PROMPT_KINDS[prompt]))
    ((_, masks),) = predict_sam1(sam, regions, read, CPU)
    by_hand = predict_by_hand(sam, regions, read(regions.store.names[0]))
    assert any(mask.any() and not mask.all() for mask in by_hand)
    assert all(np.array_equal(mask, other) for mask, other in zip(masks, by_hand, strict=True))


@pytest.mark.parametrize("view", VIEWS)
def test_under_a_view_the_turned_image_is_seen(sam: Sam1Model, draw: Draw, view: str) -> None:
    """Scoring under one view equals turning the image and the prompts by hand, and turning the masks back."""
    from trainables.protocol.tta import restore_maps, transform_maps, transform_prompt

    regions, read = draw((60, 110), Protocol("v", PROMPT_KINDS["box-neg"], tta=(view,)))
    ((plan, masks),) = predict_sam1(sam, regions, read, CPU)
    image = torch.from_numpy(read(regions.store.names[0])).permute(2, 0, 1)
    seen = np.ascontiguousarray(transform_maps(image, view).permute(1, 2, 0).numpy())
    predictor = segment_anything.SamPredictor(sam.network)
    predictor.set_image(seen)
    for item, mask in zip(plan.objects, masks, strict=True):
        points, labels = transform_prompt(item.prompt, (60, 110), view)
        logits, iou, _ = predictor.predict(points[2:], labels[2:], points[:2].reshape(4), return_logits=True)
        best = restore_maps(torch.from_numpy(logits[iou.argmax()])[None], view)[0]
        assert np.array_equal(mask, best.numpy() > 0)


def test_several_views_are_averaged(model: Sam1Model, draw: Draw) -> None:
    regions, read = draw((60, 110), Protocol("p", PROMPT_KINDS["box"], tta=("identity", "hflip", "rot90")))
    ((_, masks),) = predict_sam1(model, regions, read, CPU)
    assert [mask.shape for mask in masks] == [(60, 110)] * 2


@pytest.mark.parametrize("size", [(48, 48), (200, 30)])
def test_a_prompt_means_the_same_place_at_any_size(sam: Sam1Model, size: tuple[int, int]) -> None:
    predictor = segment_anything.SamPredictor(sam.network)
    predictor.set_image(np.random.default_rng(0).integers(0, 256, (60, 110, 3), np.uint8))
    prompt = Prompt(np.array([[10, 5], [90, 50], [50, 30]], np.float32), np.array([2, 3, 1], np.int32))
    _, expected = predict_prompt(predictor, prompt, sam.style)
    predictor.original_size = size
    scaled = Prompt(prompt.points * np.array([size[1] / 110, size[0] / 60], np.float32), prompt.labels)
    logits, iou = predict_prompt(predictor, scaled, sam.style)
    assert logits.shape == (3, *size)
    assert torch.allclose(iou, expected, atol=1e-5)


def test_a_protocol_without_prompts_is_refused(model: Sam1Model, draw: Draw) -> None:
    regions, read = draw((60, 110), PROTOCOLS["auto"])
    with pytest.raises(ProtocolMismatch, match="gives none"):
        score_sam1(model, regions, read, CPU)


def test_pairs_are_those_of_sam2(model: Sam1Model, tissue_store: RegionStore, tissue_root: Path) -> None:
    from trainables.evaluation.evaluator import evaluate
    from trainables.model.weights import load_model

    regions = EvaluationSet(tissue_store, tissue_store.names[:2], PROTOCOLS["recorded"])
    found = score_sam1(model, regions, read_from(tissue_root / "images"), CPU)
    own = evaluate(load_model("nano", None), regions, CPU)
    assert found.protocol == own.protocol
    for pair, other in zip(found.pairs, own.pairs, strict=True):
        assert dataclasses.replace(pair, overlap=other.overlap) == other
    again = score_sam1(model, regions, read_from(tissue_root / "images"), CPU)
    assert again == found


@pytest.mark.parametrize("size", [(50, 80), (256, 256), (300, 40)])
def test_stretched_images_fill_a_square_in_0_to_1(size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(40, 200, (*size, 3), np.uint8)
    stretched = stretch_image(image, 128)
    assert stretched.shape == (1, 3, 128, 128)
    assert float(stretched.min()) == 0 and float(stretched.max()) == 1


def test_stretching_keeps_levels_and_survives_a_flat_image() -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    image[0, 0], image[0, 1] = 0, 255
    wanted = torch.from_numpy(image).permute(2, 0, 1)[None] / 255
    assert torch.allclose(stretch_image(image, 64), wanted, atol=1.1 / 255)
    assert torch.equal(stretch_image(np.full((9, 9, 3), 77, np.uint8), 32), torch.zeros(1, 3, 32, 32))


@pytest.mark.slow
def test_vit_b_of_the_package_s_own_builder(tmp_path: Path, draw: Draw) -> None:
    """The published size, 1024 px, with random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        stock: Tensor = segment_anything.sam_model_registry["vit_b"]()
    torch.save(stock.state_dict(), tmp_path / "sam_vit_b.pth")
    model = load_sam1(tmp_path / "sam_vit_b.pth", STYLES["sam"])
    assert model.size == "ViT-B"
    regions, read = draw((60, 110), PROTOCOLS["box-neg"])
    ((_, masks),) = predict_sam1(model, regions, read, CPU)
    by_hand = predict_by_hand(dataclasses.replace(model, network=stock), regions, read(regions.store.names[0]))
    assert all(np.array_equal(mask, other) for mask, other in zip(masks, by_hand, strict=True))

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml
from sam2.modeling.sam2_base import SAM2Base
from torch import Tensor

from trainables.data.regions import RegionSet
from trainables.data.store import RegionStore
from trainables.demo.tissue import DEMO_CLASSES, make_region
from trainables.evaluation.evaluation_set import EvaluationSet, ObjectPlan
from trainables.evaluation.evaluator import decode_objects, predict_masks
from trainables.model.forward import encode_images, select_best_mask
from trainables.protocol.components import find_box, take_whole
from trainables.protocol.prompts import PROMPT_KINDS, Prompt, draw_prompt, find_negative_room
from trainables.protocol.spec import PROTOCOLS
from trainables.protocol.tta import VIEWS, average_views, restore_maps, transform_maps, transform_pair, transform_prompt

INVERSES = {view: view for view in VIEWS} | {"rot90": "rot270", "rot270": "rot90"}
NUMPY: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "identity": lambda m: m,
    "rot90": np.rot90,
    "rot180": lambda m: np.rot90(m, 2),
    "rot270": lambda m: np.rot90(m, 3),
    "hflip": np.fliplr,
    "vflip": np.flipud,
    "transpose": np.transpose,
    "antitranspose": lambda m: np.rot90(m, 2).T,
}
# First, then, and what both together are.
PRODUCTS = [
    ("rot90", "rot90", "rot180"),
    ("rot90", "rot270", "identity"),
    ("hflip", "vflip", "rot180"),
    ("transpose", "hflip", "rot270"),
    ("hflip", "transpose", "rot90"),
    ("rot90", "hflip", "antitranspose"),
    ("hflip", "rot90", "transpose"),
    ("transpose", "antitranspose", "rot180"),
]
SIZE = (3, 5)


def make_prompt() -> Prompt:
    """A box, a centroid between pixels and two more points, of a mask of 3 x 5."""
    points = np.array([[1, 0], [3, 2], [2.25, 1.5], [4, 0], [0, 2]], np.float32)
    return Prompt(points, np.array([2, 3, 1, 0, 0], np.int32))


def equal_prompts(first: Prompt, second: Prompt) -> bool:
    return np.array_equal(first.points, second.points) and np.array_equal(first.labels, second.labels)


def test_the_eight_views_are_all_and_differ() -> None:
    assert set(VIEWS) == set(NUMPY) and len(VIEWS) == 8
    seen = {tuple(transform_maps(torch.arange(9).view(3, 3), view).flatten().tolist()) for view in VIEWS}
    assert len(seen) == 8


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("batch", [(), (2,), (2, 3)])
def test_maps_are_transformed_as_numpy_does_and_come_back(view: str, batch: tuple[int, ...]) -> None:
    maps = torch.randn(*batch, *SIZE, generator=torch.Generator().manual_seed(0))
    seen = transform_maps(maps, view)
    expected = [NUMPY[view](one.numpy()) for one in maps.view(-1, *SIZE)]
    assert np.array_equal(seen.reshape(-1, *transform_pair(SIZE, view)).numpy(), np.stack(expected))
    assert torch.equal(restore_maps(seen, view), maps)


@pytest.mark.parametrize("view", VIEWS)
def test_every_pixel_s_point_moves_with_the_pixel(view: str) -> None:
    for y, x in np.ndindex(SIZE):
        mask = torch.zeros(SIZE)
        mask[y, x] = 1
        point = Prompt(np.array([[x, y]], np.float32), np.array([1], np.int32))
        row, column = transform_maps(mask, view).nonzero()[0].tolist()
        assert transform_prompt(point, SIZE, view).points.tolist() == [[column, row]]


@pytest.mark.parametrize("view", VIEWS)
def test_a_box_stays_the_box_of_its_mask(view: str) -> None:
    mask = np.zeros((9, 14), bool)
    mask[2:5, 3:12] = mask[2:8, 10] = True
    spec = PROMPT_KINDS["box"]
    prompt = draw_prompt(take_whole(mask), find_negative_room(mask, spec), spec, np.random.default_rng(0))
    seen = transform_prompt(prompt, mask.shape, view)
    assert tuple(seen.points.reshape(4)) == find_box(NUMPY[view](mask))
    assert np.array_equal(seen.labels, prompt.labels)


@pytest.mark.parametrize("view", VIEWS)
def test_prompts_come_back_and_keep_their_labels(view: str) -> None:
    prompt, before = make_prompt(), make_prompt()
    seen = transform_prompt(prompt, SIZE, view)
    assert equal_prompts(prompt, before) and seen.points.dtype == np.float32
    assert equal_prompts(transform_prompt(seen, transform_pair(SIZE, view), INVERSES[view]), prompt)


def test_prompts_by_hand() -> None:
    flipped, turned = (transform_prompt(make_prompt(), SIZE, view).points for view in ("hflip", "rot90"))
    assert flipped.tolist() == [[1, 0], [3, 2], [1.75, 1.5], [0, 0], [4, 2]]
    assert turned.tolist() == [[0, 1], [2, 3], [1.5, 1.75], [0, 0], [2, 4]]
    assert transform_pair(SIZE, "hflip") == (3, 5) and transform_pair(SIZE, "rot90") == (5, 3)


@pytest.mark.parametrize(("first", "second", "product"), PRODUCTS)
def test_views_multiply_as_in_the_group_s_table(first: str, second: str, product: str) -> None:
    maps = torch.arange(15).view(SIZE)
    assert torch.equal(transform_maps(transform_maps(maps, first), second), transform_maps(maps, product))
    once = transform_prompt(make_prompt(), SIZE, first)
    twice = transform_prompt(once, transform_pair(SIZE, first), second)
    assert equal_prompts(twice, transform_prompt(make_prompt(), SIZE, product))


def test_the_identity_copies_nothing() -> None:
    maps, prompt = torch.zeros(2, 3), make_prompt()
    assert transform_maps(maps, "identity") is maps and restore_maps(maps, "identity") is maps
    assert transform_prompt(prompt, SIZE, "identity") is prompt
    iou = torch.zeros(1)
    logits, kept = average_views(["identity"], lambda view: (maps, iou))
    assert logits is maps and kept is iou


def test_candidates_are_averaged_before_the_best_is_chosen() -> None:
    # Each view alone holds another candidate best; on the average it is the third.
    said = {
        "identity": (torch.tensor([6.0, 0.0, 1.0]), torch.tensor([0.9, 0.1, 0.8])),
        "hflip": (torch.tensor([0.0, 6.0, 3.0]), torch.tensor([0.1, 0.9, 0.7])),
    }
    logits, iou = average_views(said, lambda view: (said[view][0].view(1, 3, 1, 1), said[view][1].view(1, 3)))
    assert iou.tolist() == [pytest.approx([0.5, 0.5, 0.75])]
    assert select_best_mask(logits, iou).tolist() == [[[2.0]]]


# What follows asks the real nano.


@pytest.fixture(scope="module")
def turned_store(write_regions: Callable[..., RegionSet], tmp_path_factory: pytest.TempPathFactory) -> RegionStore:
    """One region at nano's own 256 px, so that nothing is resized, upright and under three views."""

    def turn(pixels: np.ndarray, view: str) -> np.ndarray:
        channels = [NUMPY[view](one) for one in np.atleast_3d(pixels).transpose(2, 0, 1)]
        return np.ascontiguousarray(np.stack(channels, axis=-1).squeeze())

    image, mask = make_region(np.random.default_rng(3), side_px=256)
    views = ("identity", "rot90", "hflip", "antitranspose")
    images, masks = ({f"{view}.png": turn(pixels, view) for view in views} for pixels in (image, mask))
    root = tmp_path_factory.mktemp("turned")
    regions = write_regions(root, masks, images, yaml.safe_dump({"classes": DEMO_CLASSES}))
    return RegionStore.build(regions, 256, root / "store")


@torch.no_grad()
def predict_logits(
    model: SAM2Base, image: Tensor, prompts: Sequence[Prompt], size: tuple[int, int], views: Sequence[str]
) -> tuple[Tensor, Tensor]:
    """Averaged logits and predicted IoU of a region's objects, whose prompts are in pixels of a mask."""
    features = {view: encode_images(model, transform_maps(image, view)) for view in views}
    scale = (image.shape[-1] / size[1], image.shape[-2] / size[0])
    objects = [ObjectPlan(0, prompt, scale) for prompt in prompts]
    return decode_objects(model, objects, features, 0, size)


@pytest.mark.parametrize("view", VIEWS)
def test_all_eight_views_make_the_model_equivariant(nano: SAM2Base, turned_store: RegionStore, view: str) -> None:
    """A turned region with turned prompts gives the turned answer; of one view alone that is not so."""
    image = torch.from_numpy(turned_store.image(turned_store.index("identity.png")).copy())[None]
    size = (60, 90)  # not square: scales and sizes must swap too
    points = np.array([[20, 8], [70, 50], [33, 21], [80, 3]], np.float32)
    prompt = Prompt(points, np.array([2, 3, 1, 0], np.int32))
    seen, turned = transform_prompt(prompt, size, view), transform_maps(image, view)

    def differ(views: Sequence[str]) -> float:
        logits, iou = predict_logits(nano, image, [prompt], size, views)
        turned_logits, turned_iou = predict_logits(nano, turned, [seen], transform_pair(size, view), views)
        assert iou.shape == turned_iou.shape == (1, 3)
        apart = max((iou - turned_iou).abs().max(), (logits - restore_maps(turned_logits, view)).abs().max())
        return float(apart)

    assert differ(VIEWS) < 1e-4
    if view != "identity":
        assert differ(["identity"]) > 0.1


@pytest.mark.parametrize("name", ["box", "recorded"])
def test_masks_of_turned_regions_are_the_turned_masks(nano: SAM2Base, turned_store: RegionStore, name: str) -> None:
    protocol = replace(PROTOCOLS[name], prompt=PROMPT_KINDS["box"], tta=VIEWS)
    regions = EvaluationSet(turned_store, ["identity.png", "rot90.png", "antitranspose.png"], protocol)
    upright, *others = (masks for _, masks in predict_masks(nano, regions, torch.device("cpu")))
    assert all(mask.any() for mask in upright)
    for view, masks in zip(("rot90", "antitranspose"), others, strict=True):
        for mask, turned in zip(upright, masks, strict=True):
            # Sums of other orders: a pixel on the threshold may turn.
            assert (NUMPY[view](mask) != turned).mean() < 1e-4


@pytest.mark.parametrize("views", [("identity", "rot90", "hflip", "vflip"), ("transpose", "rot270"), VIEWS])
def test_views_are_averaged_upright(nano: SAM2Base, turned_store: RegionStore, views: Sequence[str]) -> None:
    """Each view's answer is that of the turned region, turned back by NumPy."""
    image = torch.from_numpy(turned_store.image(turned_store.index("identity.png")).copy())[None]
    size = (60, 90)
    prompt = Prompt(np.array([[20, 8], [70, 50], [33, 21]], np.float32), np.array([2, 3, 1], np.int32))
    logits, iou = predict_logits(nano, image, [prompt], size, views)
    answers = []
    for view in views:
        seen, turned = transform_prompt(prompt, size, view), transform_maps(image, view)
        alone, alone_iou = predict_logits(nano, turned, [seen], transform_pair(size, view), ["identity"])
        upright = [NUMPY[INVERSES[view]](one) for one in alone[0].numpy()]
        answers.append((np.stack(upright), alone_iou.numpy()))
    np.testing.assert_allclose(logits[0], np.mean([maps for maps, _ in answers], axis=0), rtol=0, atol=1e-4)
    np.testing.assert_allclose(iou, np.mean([each for _, each in answers], axis=0), rtol=0, atol=1e-4)

from typing import NamedTuple

import numpy as np
import pytest
import torch
from sam2.modeling.sam2_base import SAM2Base
from small_sam2 import build_bare
from torch import Tensor
from torchvision.transforms import Resize, ToTensor

from trainables.evaluation.stock_predictor import build_predictor
from trainables.model.forward import MaskOutputs, decode_prompts, encode_images, normalize_images, select_best_mask
from trainables.protocol.components import take_whole
from trainables.protocol.prompts import PROMPT_KINDS, Prompt, draw_prompt, find_negative_room, stack_prompts

SIDE = 256
# Heights and widths. Powers of two first: there coordinates are scaled without rounding, in whatever order.
SIZES = [(128, 512), (200, 300), (97, 64)]


class Region(NamedTuple):
    """A region's own pixels and three objects in it."""

    image: np.ndarray
    objects: list[np.ndarray]


@pytest.fixture(scope="module", params=["nano", "tiny"])
def model(request: pytest.FixtureRequest) -> SAM2Base:
    """Random weights, both at 256 px: equality with the predictor must not depend on what was learned."""
    return build_bare(request.param, SIDE).eval()


@pytest.fixture(scope="module")
def regions() -> list[Region]:
    rng = np.random.default_rng(0)
    found = []
    for height, width in SIZES:
        objects = []
        for _ in range(3):
            mask = np.zeros((height, width), bool)
            top, left = int(rng.integers(height // 2)), int(rng.integers(width // 2))
            mask[top : top + height // 3, left : left + width // 3] = True
            objects.append(mask)
        found.append(Region(rng.integers(0, 256, (height, width, 3), np.uint8), objects))
    return found


def stack_images(regions: list[Region]) -> Tensor:
    return torch.stack([Resize((SIDE, SIDE))(ToTensor()(region.image)) for region in regions])


def draw_prompts(regions: list[Region], kind: str) -> list[list[Prompt]]:
    spec, rng = PROMPT_KINDS[kind], np.random.default_rng(1)
    return [
        [draw_prompt(take_whole(mask), find_negative_room(mask, spec), spec, rng) for mask in region.objects]
        for region in regions
    ]


def predict_stock(model: SAM2Base, regions: list[Region], prompts: list[list[Prompt]]) -> tuple[Tensor, Tensor]:
    """One object at a time: low-resolution logits, which the predictor clamps to [-32, 32], and IoU estimates."""
    predictor = build_predictor(model)
    logits, ious = [], []
    for region, region_prompts in zip(regions, prompts, strict=True):
        predictor.set_image(region.image)
        for points, labels in region_prompts:
            n_box = 2 * int(labels[0] == 2)
            _, iou, low_res = predictor.predict(
                point_coords=points[n_box:] if len(points) > n_box else None,
                point_labels=labels[n_box:] if len(points) > n_box else None,
                box=points[:2].reshape(4) if n_box else None,
                multimask_output=True,
            )
            logits.append(low_res)
            ious.append(iou)
    return torch.from_numpy(np.stack(logits)), torch.from_numpy(np.stack(ious))


def predict_batched(model: SAM2Base, regions: list[Region], prompts: list[list[Prompt]]) -> MaskOutputs:
    """All objects of all regions at once, in an order that mixes the regions."""
    flat = [(index, prompt) for index, each in enumerate(prompts) for prompt in each]
    scales = [(SIDE / SIZES[index][1], SIDE / SIZES[index][0]) for index, _ in flat]
    points, labels = stack_prompts([prompt for _, prompt in flat], scales)
    region_index = torch.tensor([index for index, _ in flat])
    order = torch.randperm(len(flat), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        features = encode_images(model, stack_images(regions))
        mixed = decode_prompts(model, features, region_index[order], points[order], labels[order])
    back = order.argsort()
    return MaskOutputs(*(value[back] for value in mixed))


@pytest.mark.parametrize("kind", sorted(PROMPT_KINDS))
def test_one_object_gives_the_stock_predictor_s_logits_exactly(
    model: SAM2Base, regions: list[Region], kind: str
) -> None:
    prompts = draw_prompts(regions, kind)
    logits, iou = predict_stock(model, regions[:1], [prompts[0][:1]])
    outputs = predict_batched(model, regions[:1], [prompts[0][:1]])
    assert outputs.logits.shape == (1, 3, SIDE // 4, SIDE // 4)
    assert torch.equal(outputs.logits.clamp(-32, 32), logits)
    assert torch.equal(outputs.iou, iou)


@pytest.mark.parametrize("kind", sorted(PROMPT_KINDS))
def test_a_batch_of_regions_and_objects_gives_the_stock_logits(
    model: SAM2Base, regions: list[Region], kind: str
) -> None:
    prompts = draw_prompts(regions, kind)
    logits, iou = predict_stock(model, regions, prompts)
    outputs = predict_batched(model, regions, prompts)
    # Matrix products of other shapes add up in another order: equal to float32's last digits.
    torch.testing.assert_close(outputs.logits.clamp(-32, 32), logits, rtol=0, atol=2e-5)
    torch.testing.assert_close(outputs.iou, iou, rtol=0, atol=2e-6)
    assert logits.std(dim=0).amax() > 100 * 2e-5  # else objects would be too alike to be mixed up


def test_gradients_reach_every_promptable_part(model: SAM2Base, regions: list[Region]) -> None:
    prompts = draw_prompts(regions, "points")
    points, labels = stack_prompts(prompts[0][:2], [(SIDE / 512, SIDE / 128)] * 2)
    features = encode_images(model, stack_images(regions[:1]))
    outputs = decode_prompts(model, features, torch.tensor([0, 0]), points, labels)
    (outputs.logits.square().mean() + outputs.iou.mean() + outputs.objectness.mean()).backward()
    try:
        for part in ("image_encoder.trunk", "image_encoder.neck", "sam_prompt_encoder", "sam_mask_decoder"):
            slopes = [
                parameter.grad.abs().max()
                for parameter in model.get_submodule(part).parameters()
                if parameter.grad is not None
            ]
            assert slopes and max(slopes) > 0, part
        assert model.no_mem_embed.grad is not None and model.no_mem_embed.grad.abs().max() > 0
        first = model.get_parameter("image_encoder.trunk.patch_embed.proj.weight").grad
        assert first is not None and first.abs().max() > 0
    finally:
        model.zero_grad(set_to_none=True)


@pytest.mark.parametrize("shape", [(1, 3, 128, 128), (1, 3, 256, 128), (2, 3, 512, 512)])
def test_images_of_another_size_are_refused(model: SAM2Base, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"must be 256 x 256, but got \(\d+, \d+\)"):
        encode_images(model, torch.zeros(shape))


def test_encoding_leaves_its_argument_as_it_was(model: SAM2Base) -> None:
    images = torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    kept = images.clone()
    with torch.inference_mode():
        encode_images(model, images)
    assert torch.equal(images, kept)


def test_normalize_images_centers_imagenet_s_mean() -> None:
    mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1).expand(2, 3, 4, 4)
    std = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
    assert normalize_images(mean).abs().max() == 0
    torch.testing.assert_close(normalize_images(mean + 2 * std), torch.full((2, 3, 4, 4), 2.0))


def test_select_best_mask_follows_the_model_s_own_estimate_object_by_object() -> None:
    logits = torch.arange(6.0).view(2, 3, 1, 1)
    best = select_best_mask(logits, torch.tensor([[0.1, 0.9, 0.2], [0.7, 0.6, 0.5]]))
    assert best.flatten().tolist() == [1.0, 3.0]

"""Scores a model by sam2's own ``SAM2ImagePredictor``: the outside check of this project's forward pass."""

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import torch
from jaxtyping import Float, UInt8
from sam2.modeling.sam2_base import SAM2Base
from sam2.sam2_image_predictor import SAM2ImagePredictor
from torch import Tensor

from trainables.evaluation.evaluation_set import EvaluationSet, RegionPlan
from trainables.evaluation.evaluator import autocast
from trainables.protocol.components import BoolMask
from trainables.protocol.prompts import BOX_TOP_LEFT, Prompt
from trainables.protocol.spec import Protocol, clean_mask
from trainables.protocol.tta import average_views, restore_maps, transform_maps, transform_pair, transform_prompt
from trainables.tiles.grid import cut_window

ReadImage = Callable[[str], UInt8[np.ndarray, "h w 3"]]
Features = TypeVar("Features")


@dataclass(frozen=True)
class PromptedModel(Generic[Features]):
    """A model that answers one prompt at a time, as a library runs it.

    Attributes:
        encode: Returns the features of an RGB image [h, w, 3] of any size.
        decode: Returns logits [masks, h, w] and predicted IoU [masks] of one prompt, given the features, the prompt,
            and the height and width in which its points lie and its masks are wanted.
    """

    encode: Callable[[UInt8[np.ndarray, "h w 3"]], Features]
    decode: Callable[[Features, Prompt, tuple[int, int]], tuple[Tensor, Tensor]]


def build_predictor(model: SAM2Base) -> SAM2ImagePredictor:
    """Wraps a model of any image size in the stock predictor, which assumes 1024."""
    predictor = SAM2ImagePredictor(model)
    side = model.image_size
    predictor._bb_feat_sizes = [(side // stride, side // stride) for stride in (4, 8, 16)]
    return predictor


def use_predictor(model: SAM2Base, device: torch.device) -> PromptedModel[SAM2ImagePredictor]:
    """Returns a model as the stock predictor runs it; the model is on the device, in evaluation mode."""
    empty = build_predictor(model)

    def encode(image: UInt8[np.ndarray, "h w 3"]) -> SAM2ImagePredictor:
        predictor = copy.copy(empty)  # building one compiles its transforms
        with autocast(device):
            predictor.set_image(image)
        return predictor

    def decode(predictor: SAM2ImagePredictor, prompt: Prompt, _: tuple[int, int]) -> tuple[Tensor, Tensor]:
        with autocast(device):
            return predict_one(predictor, prompt)

    return PromptedModel(encode, decode)


def predict_prompt_by_prompt(
    model: PromptedModel[Features], regions: EvaluationSet, read_image: ReadImage
) -> Iterator[tuple[RegionPlan, list[BoolMask]]]:
    """Yields what :func:`trainables.evaluation.evaluator.predict_masks` does, with one encoding for each view.

    ``read_image`` returns a region's own RGB pixels, uint8.
    """
    for plan in regions.plans:
        yield plan, regions.join(plan, _predict_tiles(model, regions, plan, read_image))


def _predict_tiles(
    model: PromptedModel[Features], regions: EvaluationSet, plan: RegionPlan, read_image: ReadImage
) -> Iterator[list[BoolMask]]:
    protocol, pixels = regions.protocol, read_image(regions.store.names[plan.index])
    for part in plan.tiles:
        window = part.tile.window
        inside = window.clip_size(regions.store.size(plan.index))
        image = torch.from_numpy(pixels if protocol.tiles is None else cut_window(pixels, window)).permute(2, 0, 1)
        features = {}
        for view in protocol.tta:
            seen = transform_maps(image, view).permute(1, 2, 0)
            features[view] = model.encode(np.ascontiguousarray(seen.numpy()))
        united = np.zeros((len(plan.pairs), *window.size), bool)
        for item in part.objects:
            united[item.pair] |= _predict_object(model, features, item.prompt, window.size, protocol)
        yield [clean_mask(mask[: inside[0], : inside[1]], protocol) for mask in united]


def _predict_object(
    model: PromptedModel[Features],
    features: Mapping[str, Features],
    prompt: Prompt,
    size: tuple[int, int],
    protocol: Protocol,
) -> BoolMask:
    """Returns the mask of one prompt with the highest predicted IoU, averaged over the views."""

    def decode(view: str) -> tuple[Tensor, Tensor]:
        logits, iou = model.decode(features[view], transform_prompt(prompt, size, view), transform_pair(size, view))
        return restore_maps(logits, view), iou

    logits, iou = average_views(features, decode)
    mask: BoolMask = (logits[int(iou.argmax())] > protocol.threshold).cpu().numpy()
    return mask


def predict_one(
    predictor: SAM2ImagePredictor, prompt: Prompt
) -> tuple[Float[Tensor, "masks h w"], Float[Tensor, " masks"]]:
    """Returns the logits at the image's size and the predicted IoU of one prompt, of the image that was set."""
    box = prompt.points[:2].reshape(4) if prompt.labels[0] == BOX_TOP_LEFT else None
    points, labels = (prompt.points, prompt.labels) if box is None else (prompt.points[2:], prompt.labels[2:])
    logits, iou, _ = predictor.predict(
        point_coords=points if len(points) else None,
        point_labels=labels if len(labels) else None,
        box=box,
        multimask_output=True,
        return_logits=True,
    )
    return torch.from_numpy(logits), torch.from_numpy(iou)

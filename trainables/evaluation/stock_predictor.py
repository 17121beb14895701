"""Scores a model by sam2's own ``SAM2ImagePredictor``: the outside check of this project's forward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import torch
from jaxtyping import Float, UInt8
from sam2.modeling.sam2_base import SAM2Base
from sam2.sam2_image_predictor import SAM2ImagePredictor
from torch import Tensor

from trainables.evaluation.evaluation_set import EvaluationSet, RegionPlan
from trainables.evaluation.evaluator import autocast, collect_scores
from trainables.protocol.components import BoolMask
from trainables.protocol.prompts import BOX_TOP_LEFT, Prompt
from trainables.protocol.scores import Scores
from trainables.protocol.spec import Protocol, clean_mask
from trainables.protocol.tta import average_views, restore_maps, transform_maps, transform_pair, transform_prompt


def build_predictor(model: SAM2Base) -> SAM2ImagePredictor:
    """Wraps a model in the stock predictor, which takes an image size of 1024 for granted."""
    predictor = SAM2ImagePredictor(model)
    side = model.image_size
    predictor._bb_feat_sizes = [(side // stride, side // stride) for stride in (4, 8, 16)]
    return predictor


def predict_prompt(
    predictor: SAM2ImagePredictor, prompt: Prompt, multimask: bool
) -> tuple[Float[Tensor, "masks h w"], Float[Tensor, " masks"]]:
    """Returns logits, at the size of the image that the predictor was given, and predicted IoU of one prompt."""
    box = prompt.points[:2].reshape(4) if prompt.labels[0] == BOX_TOP_LEFT else None
    points, labels = (prompt.points, prompt.labels) if box is None else (prompt.points[2:], prompt.labels[2:])
    logits, iou, _ = predictor.predict(
        point_coords=points if len(points) else None,
        point_labels=labels if len(labels) else None,
        box=box,
        multimask_output=multimask,
        return_logits=True,
    )
    return torch.from_numpy(logits), torch.from_numpy(iou)


def score_with_predictor(
    model: SAM2Base, regions: EvaluationSet, read_image: Callable[[str], np.ndarray], device: torch.device
) -> Scores:
    """Scores a model as :func:`trainables.evaluation.evaluator.evaluate` does, but by the stock predictor."""
    return collect_scores(regions, predict_with_predictor(model, regions, read_image, device))


def predict_with_predictor(
    model: SAM2Base, regions: EvaluationSet, read_image: Callable[[str], np.ndarray], device: torch.device
) -> Iterator[tuple[RegionPlan, list[BoolMask]]]:
    """Yields what :func:`trainables.evaluation.evaluator.predict_masks` does, but from the stock predictor.

    Args:
        model: On the device, in evaluation mode.
        regions: Regions and prompts.
        read_image: Gives a region's own RGB pixels, uint8, by its name.
        device: Where the model lies.
    """
    protocol = regions.protocol
    predictors = {view: build_predictor(model) for view in protocol.tta}
    for plan in regions.plans:
        size = regions.size(plan.index)
        united = np.zeros((len(plan.pairs), *size), bool)
        with autocast(device):
            image = read_image(regions.store.names[plan.index])
            for view, predictor in predictors.items():
                _set_image(predictor, image, size, view)
            for item in plan.objects:
                united[item.pair] |= _predict_object(predictors, item.prompt, size, protocol)
        yield plan, [clean_mask(mask, protocol) for mask in united]


def _set_image(
    predictor: SAM2ImagePredictor, image: UInt8[np.ndarray, "h w 3"], size: tuple[int, int], view: str
) -> None:
    """Gives the predictor an image as it is seen under a view."""
    seen = transform_maps(torch.from_numpy(image).permute(2, 0, 1), view).permute(1, 2, 0)
    predictor.set_image(np.ascontiguousarray(seen.numpy()))
    # Prompts come, and masks go, at the size that is scored, which may not be the image's own.
    predictor._orig_hw = [transform_pair(size, view)]


def _predict_object(
    predictors: Mapping[str, SAM2ImagePredictor], prompt: Prompt, size: tuple[int, int], protocol: Protocol
) -> BoolMask:
    """Returns the best mask of one prompt, of what the predictors say of their views on the average."""

    def predict(view: str) -> tuple[Tensor, Tensor]:
        seen = transform_prompt(prompt, size, view)
        logits, iou = predict_prompt(predictors[view], seen, protocol.multimask)
        return restore_maps(logits, view), iou

    logits, iou = average_views(predictors, predict)
    mask: BoolMask = (logits[int(iou.argmax())] > protocol.threshold).numpy()
    return mask

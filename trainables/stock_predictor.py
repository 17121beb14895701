"""Scores a model by sam2's own ``SAM2ImagePredictor``: the outside check of this project's forward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from sam2.modeling.sam2_base import SAM2Base
from sam2.sam2_image_predictor import SAM2ImagePredictor

from trainables.components import BoolMask
from trainables.evaluate import EvaluationSet, RegionPlan, Scores, autocast, collect_scores
from trainables.prompts import BOX_TOP_LEFT, Prompt
from trainables.protocol import clean_mask


def build_predictor(model: SAM2Base) -> SAM2ImagePredictor:
    """Wraps a model in the stock predictor, which takes an image size of 1024 for granted."""
    predictor = SAM2ImagePredictor(model)
    side = model.image_size
    predictor._bb_feat_sizes = [(side // stride, side // stride) for stride in (4, 8, 16)]
    return predictor


def predict_prompt(
    predictor: SAM2ImagePredictor, prompt: Prompt, multimask: bool, threshold: float
) -> BoolMask:
    """Returns the best mask of one prompt, at the size of the image that the predictor was given."""
    box = prompt.points[:2].reshape(4) if prompt.labels[0] == BOX_TOP_LEFT else None
    points, labels = (prompt.points, prompt.labels) if box is None else (prompt.points[2:], prompt.labels[2:])
    logits, iou, _ = predictor.predict(
        point_coords=points if len(points) else None,
        point_labels=labels if len(labels) else None,
        box=box,
        multimask_output=multimask,
        return_logits=True,
    )
    mask: BoolMask = logits[int(np.argmax(iou))] > threshold
    return mask


def score_with_predictor(
    model: SAM2Base, regions: EvaluationSet, read_image: Callable[[str], np.ndarray], device: torch.device
) -> Scores:
    """Scores a model as :func:`trainables.evaluate.evaluate` does, but by the stock predictor."""
    return collect_scores(regions, predict_with_predictor(model, regions, read_image, device))


def predict_with_predictor(
    model: SAM2Base, regions: EvaluationSet, read_image: Callable[[str], np.ndarray], device: torch.device
) -> Iterator[tuple[RegionPlan, list[BoolMask]]]:
    """Yields what :func:`trainables.evaluate.predict_masks` does, but from the stock predictor.

    Args:
        model: On the device, in evaluation mode.
        regions: Regions and prompts.
        read_image: Gives a region's own RGB pixels, uint8, by its name.
        device: Where the model lies.
    """
    predictor, protocol = build_predictor(model), regions.protocol
    for plan in regions.plans:
        united = np.zeros((len(plan.pairs), *regions.store.size(plan.index)), bool)
        with autocast(device):
            predictor.set_image(read_image(regions.store.names[plan.index]))
            for item in plan.objects:
                mask = predict_prompt(predictor, item.prompt, protocol.multimask, protocol.threshold)
                united[item.pair] |= mask
        yield plan, [clean_mask(mask, protocol) for mask in united]

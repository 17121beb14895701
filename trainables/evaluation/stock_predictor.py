"""Scores a model by sam2's own ``SAM2ImagePredictor``: the outside check of this project's forward pass."""

from collections.abc import Callable, Iterator

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
from trainables.protocol.spec import clean_mask
from trainables.protocol.tta import average_views, restore_maps, transform_maps, transform_prompt
from trainables.tiles.grid import cut_window

ReadImage = Callable[[str], UInt8[np.ndarray, "h w 3"]]
# Gives a view's predictor an image as seen under the view.
SetImage = Callable[[str, UInt8[np.ndarray, "h w 3"]], None]
# Returns a view's logits [masks, h, w], at the image's size, and predicted IoU [masks] of one prompt.
PredictPrompt = Callable[[str, Prompt], tuple[Tensor, Tensor]]


def build_predictor(model: SAM2Base) -> SAM2ImagePredictor:
    """Wraps a model of any image size in the stock predictor, which assumes 1024."""
    predictor = SAM2ImagePredictor(model)
    side = model.image_size
    predictor._bb_feat_sizes = [(side // stride, side // stride) for stride in (4, 8, 16)]
    return predictor


def score_with_predictor(
    model: SAM2Base, regions: EvaluationSet, read_image: ReadImage, device: torch.device
) -> Scores:
    """Scores a model as :func:`trainables.evaluation.evaluator.evaluate` does, but by the stock predictor."""
    return collect_scores(regions, predict_with_predictor(model, regions, read_image, device))


def predict_with_predictor(
    model: SAM2Base, regions: EvaluationSet, read_image: ReadImage, device: torch.device
) -> Iterator[tuple[RegionPlan, list[BoolMask]]]:
    """Yields what :func:`trainables.evaluation.evaluator.predict_masks` does, but from the stock predictor.

    The model is on the device, in evaluation mode; ``read_image`` returns a region's own RGB pixels, uint8.
    """
    predictors = {view: build_predictor(model) for view in regions.protocol.tta}

    def set_image(view: str, image: UInt8[np.ndarray, "h w 3"]) -> None:
        with autocast(device):
            predictors[view].set_image(image)

    def predict(view: str, prompt: Prompt) -> tuple[Tensor, Tensor]:
        with autocast(device):
            return predict_one(predictors[view], prompt)

    return predict_prompt_by_prompt(regions, read_image, set_image, predict)


def predict_prompt_by_prompt(
    regions: EvaluationSet, read_image: ReadImage, set_image: SetImage, predict: PredictPrompt
) -> Iterator[tuple[RegionPlan, list[BoolMask]]]:
    """Yields each region's plan and cleaned masks, one for each class, from one predictor for each view.

    ``read_image`` returns a region's own RGB pixels. ``set_image`` is called for every region and view, ``predict`` for
    every prompt and view.
    """
    for plan in regions.plans:
        yield plan, regions.join(plan, _predict_tiles(regions, plan, read_image, set_image, predict))


def _predict_tiles(
    regions: EvaluationSet, plan: RegionPlan, read_image: ReadImage, set_image: SetImage, predict: PredictPrompt
) -> Iterator[list[BoolMask]]:
    protocol, pixels = regions.protocol, read_image(regions.store.names[plan.index])
    for part in plan.tiles:
        window = part.tile.window
        inside = window.clip_size(regions.store.size(plan.index))
        image = torch.from_numpy(pixels if protocol.tiles is None else cut_window(pixels, window)).permute(2, 0, 1)
        for view in protocol.tta:
            seen = transform_maps(image, view).permute(1, 2, 0)
            set_image(view, np.ascontiguousarray(seen.numpy()))
        united = np.zeros((len(plan.pairs), *window.size), bool)
        for item in part.objects:
            united[item.pair] |= _predict_object(item.prompt, window.size, regions, predict)
        yield [clean_mask(mask[: inside[0], : inside[1]], protocol) for mask in united]


def _predict_object(prompt: Prompt, size: tuple[int, int], regions: EvaluationSet, predict: PredictPrompt) -> BoolMask:
    """Returns the mask of one prompt with the highest predicted IoU, averaged over the views."""

    def predict_upright(view: str) -> tuple[Tensor, Tensor]:
        logits, iou = predict(view, transform_prompt(prompt, size, view))
        return restore_maps(logits, view), iou

    logits, iou = average_views(regions.protocol.tta, predict_upright)
    mask: BoolMask = (logits[int(iou.argmax())] > regions.protocol.threshold).cpu().numpy()
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

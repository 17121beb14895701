"""How far a library's masks of one region are from those of stock SAM2, over the kinds of prompts that there are."""

import numpy as np
import torch
from sam2.modeling.sam2_base import SAM2Base

from trainables.demo.tissue import make_region
from trainables.evaluation.stock_predictor import PromptedModel, build_predictor
from trainables.protocol.prompts import Prompt

SIZE = (120, 160)
_BOX = ([[30.0, 20], [120, 100]], [2, 3])
_POINTS = ([[70.0, 60], [5, 5]], [1, 0])
_BOTH = (_BOX[0] + _POINTS[0], _BOX[1] + _POINTS[1])


def measure_distance(model: SAM2Base, exported: PromptedModel) -> tuple[float, float]:
    """Returns the greatest difference of logits, relative to the greatest, and the share of pixels that differ."""
    image = make_region(np.random.default_rng(0), side_px=160)[0][: SIZE[0]]
    predictor = build_predictor(model)
    predictor.set_image(image)
    features = exported.encode(image)
    off, changed = 0.0, 0.0
    for points, labels in (_BOX, _POINTS, _BOTH):
        prompt = Prompt(np.array(points, np.float32), np.array(labels, np.int32))
        wanted, iou, _ = predictor.predict(*prompt, multimask_output=True, return_logits=True)
        logits, found_iou = exported.decode(features, prompt, SIZE)
        assert logits.shape == wanted.shape and found_iou.shape == iou.shape
        difference = (logits - torch.from_numpy(wanted)).abs().max() / np.abs(wanted).max()
        off, changed = max(off, float(difference)), max(changed, float(((logits > 0).numpy() != (wanted > 0)).mean()))
        np.testing.assert_allclose(found_iou, iou, atol=0.01)
    return off, changed

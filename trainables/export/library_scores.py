"""Scores an exported file on validation by the library that it is meant for, from the image files."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
from jaxtyping import UInt8
from torch import Tensor

from trainables.context import TrialContext
from trainables.data.images import read_image
from trainables.data.regions import read_regions
from trainables.evaluation.candidates import open_regions
from trainables.evaluation.evaluator import collect_scores
from trainables.evaluation.stock_predictor import ReadImage, predict_prompt_by_prompt
from trainables.protocol.prompts import Prompt
from trainables.protocol.scores import Scores

_Features = TypeVar("_Features")


@dataclass(frozen=True)
class LibraryModel(Generic[_Features]):
    """An exported model as its library runs it.

    Attributes:
        encode: Returns the features of an RGB image [h, w, 3] of any size.
        decode: Returns logits [3, h, w] and predicted IoU [3] of one prompt, given the features, the prompt, and the
            height and width in which its points lie and its masks are wanted.
    """

    encode: Callable[[UInt8[np.ndarray, "h w 3"]], _Features]
    decode: Callable[[_Features, Prompt, tuple[int, int]], tuple[Tensor, Tensor]]


def open_images(data_root: Path) -> ReadImage:
    """Returns what reads a region's own pixels by the region's name."""
    files = {region.name: region.image for region in read_regions(data_root).regions}
    return lambda name: read_image(files[name])


def score_by_library(context: TrialContext, model: LibraryModel[_Features], data_root: Path) -> Scores:
    """Scores a model on the validation regions under the search's protocol, prompt by prompt."""
    regions = open_regions(context, context.val)
    seen: dict[str, tuple[_Features, tuple[int, int]]] = {}

    def set_image(view: str, image: UInt8[np.ndarray, "h w 3"]) -> None:
        seen[view] = model.encode(image), (image.shape[0], image.shape[1])

    def predict(view: str, prompt: Prompt) -> tuple[Tensor, Tensor]:
        features, size = seen[view]
        return model.decode(features, prompt, size)

    return collect_scores(regions, predict_prompt_by_prompt(regions, open_images(data_root), set_image, predict))

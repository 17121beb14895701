"""Scores an exported file on validation by the library that it is meant for, from the image files."""

from pathlib import Path

from trainables.context import TrialContext
from trainables.data.images import read_image
from trainables.data.regions import read_regions
from trainables.evaluation.candidates import open_regions
from trainables.evaluation.evaluator import collect_scores
from trainables.evaluation.stock_predictor import Features, PromptedModel, ReadImage, predict_prompt_by_prompt
from trainables.protocol.scores import Scores


def open_images(data_root: Path) -> ReadImage:
    """Returns what reads a region's own pixels by the region's name."""
    files = {region.name: region.image for region in read_regions(data_root).regions}
    return lambda name: read_image(files[name])


def score_by_library(context: TrialContext, model: PromptedModel[Features], data_root: Path) -> Scores:
    """Scores a model on the validation regions under the search's protocol, prompt by prompt."""
    regions = open_regions(context, context.val)
    return collect_scores(regions, predict_prompt_by_prompt(model, regions, open_images(data_root)))

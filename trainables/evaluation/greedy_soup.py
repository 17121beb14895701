"""The greedy soup: fine-tunes join one by one, as long as the mean of all does not lose by it."""

from collections.abc import Sequence
from pathlib import Path

import torch

from trainables.adapters.soup import WeightMean
from trainables.context import TrialContext
from trainables.evaluation.candidates import load_merged_states, open_regions
from trainables.evaluation.evaluator import evaluate
from trainables.model.device import pick_device
from trainables.model.weights import load_model
from trainables.protocol.scores import flatten_scores


def grow_soup(
    context: TrialContext, checkpoints: Sequence[Path], names: Sequence[str], metric: str, score: float
) -> list[int]:
    """Returns which of the checkpoints are members (Wortsman et al. 2022, arXiv 2203.05482, recipe 1).

    The first one is a member, whose ``score`` is known. The others come in their order; each stays if the metric, one
    of :func:`~trainables.protocol.scores.flatten_scores`, is not lower with it than without, on the named regions.

    Raises:
        CheckpointError: If a checkpoint or the base cannot be read.
        TrainablesError: If an adapter cannot be merged.
    """
    regions, device = open_regions(context, names), pick_device()
    model = load_model(context.model, context.checkpoint).to(device)
    mean, members = WeightMean().add(load_merged_states(context, checkpoints[0])[1]), [0]
    for number, checkpoint in enumerate(checkpoints[1:], start=1):
        larger = mean.add(load_merged_states(context, checkpoint)[1])
        model.load_state_dict(larger.to_state())
        with torch.inference_mode():
            found = flatten_scores(evaluate(model, regions, device), "val")[metric]
        if found >= score:
            mean, score = larger, found
            members.append(number)
    return members

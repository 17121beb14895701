"""The greedy soup: fine-tunes join one by one, as long as the mean of all does not lose by it."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from trainables.adapters.soup import WeightMean
from trainables.context import TrialContext
from trainables.evaluation.candidates import load_merged_states, open_regions, score_between
from trainables.model.device import pick_device
from trainables.model.weights import load_model
from trainables.protocol.scores import flatten_scores

# Scales of the mean update at which a soup is tried: updates are often best when they are scaled down.
GROWN_AT = (0.5, 0.75, 1.0)


def grow_soup(
    context: TrialContext,
    checkpoints: Sequence[Path],
    names: Sequence[str],
    metric: str,
    by_scale: Mapping[float, float],
) -> list[int]:
    """Returns which of the checkpoints are members (Wortsman et al. 2022, arXiv 2203.05482, recipe 1).

    The first one is a member. The others come in their order; each stays if the metric, one of
    :func:`~trainables.protocol.scores.flatten_scores`, is not lower with it than without, on the named regions. A soup
    counts at the best scale of its update among :data:`GROWN_AT`; ``by_scale`` has the first one's metric at each.

    Raises:
        CheckpointError: If a checkpoint or the base cannot be read.
        TrainablesError: If an adapter cannot be merged.
    """
    regions = open_regions(context, names)
    model = load_model(context.model, context.checkpoint).to(pick_device())
    base, tuned = load_merged_states(context, checkpoints[0])
    mean, members, score = WeightMean().add(tuned), [0], max(by_scale[scale] for scale in GROWN_AT)
    for number, checkpoint in enumerate(checkpoints[1:], start=1):
        larger = mean.add(load_merged_states(context, checkpoint)[1])
        found = score_between(model, (base, larger.to_state()), GROWN_AT, regions)
        if (top := max(flatten_scores(each, "val")[metric] for each in found.values())) >= score:
            mean, score = larger, top
            members.append(number)
    return members

"""``--gpus-per-trial auto``: as many trials share a GPU as a measured step of the largest recipe lets in."""

import math

from search.cluster.resources import TrialResources
from search.cluster.workers import call_with_resources
from search.space.config import SearchConfig
from search.space.parameters import Choice, Parameter, applies, list_conditions, sort_parents_first
from trainables.context import TrialContext
from trainables.model.device import CONTEXT_SHARE
from trainables.recipe import Scalar
from trainables.trial_cost import Memory, measure_trial

# A trial is given so many times what the step took: other batches have more objects, and memory breaks into pieces.
MARGIN = 1.25
# Contexts of so many processes fit CONTEXT_SHARE of a GPU of 80 GB, half a GB each.
MAX_PER_GPU = 8
# Choices from the one that takes the most memory in training to the one that takes the least; with nano, DoRA's
# backward pass keeps 2.2 times what LoRA's does, LoHa's and LoKr's a little more, and that of bottlenecks less.
_LARGEST_FIRST: dict[str, tuple[Scalar, ...]] = {
    "adapter.kind": ("dora", "loha", "lokr", "pissa", "rslora", "lora", "bottleneck", "none"),
    "adapter.targets": ("both", "image_encoder", "mask_decoder"),
    "adapter.layers": ("all", "mlp", "attention", "qkv", "proj"),
    "adapter.stages": ("all", "early", "late"),
    "fusion.kind": ("attention", "concat", "none"),
}
_SIZES = ("adapter.rank", "optim.batch_size", "prompts.max_objects", "class_prompts.tokens")


def measure_share(config: SearchConfig, context: TrialContext, whole_gpu: TrialResources) -> tuple[float, str]:
    """Returns the part of a GPU for each trial, and a line that says why.

    The steps are taken in a worker that has a GPU to itself.

    Raises:
        SearchError: If the worker died.
        TrainablesError: If the GPU does not hold a single region, or the loss is not finite.
    """
    values = pick_largest(config)
    step = call_with_resources(whole_gpu, "steps of the largest recipe", measure_trial, context, values).memory
    share = choose_share(step)
    named = ", ".join(f"{name} {value}" for name, value in values.items() if name in (*_LARGEST_FIRST, *_SIZES))
    return share, describe_share(step, share, named)


def choose_share(step: Memory) -> float:
    """Returns the part of a GPU, in hundredths, that holds the step with a margin; a whole one where it barely fits."""
    if not step.is_whole:
        return 1.0
    fitting = int((1 - CONTEXT_SHARE) * step.total_mb / (MARGIN * step.peak_mb))
    return math.floor(100 / max(1, min(fitting, MAX_PER_GPU))) / 100


def describe_share(step: Memory, share: float, named: str) -> str:
    """Returns the line for the screen."""
    took = f"a training step of the largest recipe{f' ({named})' if named else ''} took {step.peak_mb / 1e3:.1f} GB"
    of_all = f"of a GPU's {step.total_mb / 1e3:.1f} GB"
    if not step.is_whole:
        return f"GPUs     {took} {of_all}, with checkpointed activations: a trial has a GPU to itself"
    n_trials = int(1 / share)
    end = (
        f"{n_trials} trials share a GPU (--gpus-per-trial {share:g})" if n_trials > 1 else "a trial has a GPU to itself"
    )
    return f"GPUs     {took} {of_all}: {end}"


def pick_largest(config: SearchConfig) -> dict[str, Scalar]:
    """Returns the values of a space, those that apply, with which a trial takes the most memory.

    Fields that do not change the memory have any of their values.
    """
    when, drawn = list_conditions(config.space), dict[str, Scalar]()
    for name in sort_parents_first(list(config.space), when):
        if applies(name, when, drawn):
            drawn[name] = _pick(name, config.space[name])
    return drawn


def _pick(name: str, parameter: Parameter) -> Scalar:
    values = parameter.values if isinstance(parameter, Choice) else (parameter.low, parameter.high)
    if name in _LARGEST_FIRST:
        return min(values, key=_LARGEST_FIRST[name].index)
    if name == "adapter.last_blocks":
        return 0 if 0 in values else max(values)  # 0 stands for all of them
    # Of switches, True: what is trained in full takes more.
    return values[0] if isinstance(values[0], str) else max(values)

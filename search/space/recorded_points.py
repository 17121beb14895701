"""The recorded experiments as starting points of another search: which lie inside it, and why the others do not.

A recorded configuration lies inside a space if the trial that would start from it trains what was trained then:

1. What is trained must be as recorded. Fields of ``adapter``, ``fusion`` and ``class_prompts`` that have an effect
   either are searched, and the recorded value lies in their range, or have the recorded value in this space too. A
   decoder fine-tune does not become a LoRA under its old name.
2. Every other searched parameter takes the recorded value, or the recipe's default where the replay leaves it; it
   must lie inside as it is, and is never clipped to the nearest end.
3. How it is trained may differ in fields that this space does not search: they stay the space's own. Each that
   differs is named in the point's note, with the recorded value, so that nobody takes the trial for a replay.

By the strict rule, under which fields that are not searched must be equal too, no useful space would ever hold a
recorded point: schedules end at other rates, and augmentation has other borders. A replay is what the files of
``spaces/recorded`` are for; a starting point is a place to search from.

A warm-up has three spellings. Where only its share of all steps is searched, the recorded steps or epochs are
turned into it, by the recorded run's own length on BCSS.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from search.command_line.numbers import MAX_COUNT
from search.errors import ConfigError
from search.space.parameter_reader import read_fixed
from search.space.parameters import (
    Choice,
    Parameter,
    applies,
    contains,
    list_conditions,
    sort_parents_first,
    spell_value,
)
from search.space.recorded_experiments import RECORDED_EXPERIMENTS
from search.space.starting_points import StartingPoint
from trainables.files.yaml_lines import read_yaml
from trainables.recipe import Recipe, Scalar
from trainables.training.schedule import build_schedule

SPACES_FOLDER = Path(__file__).parents[2] / "spaces"  # not by its name, which a folder of the user may have too
FOLDER = "recorded"
N_TRAINING_REGIONS = 85  # of the recorded split of BCSS
WHAT_IS_TRAINED = ("adapter.", "fusion.", "class_prompts.")

_LAYERS_OF_ADAPTERS = tuple(
    f"adapter.{key}" for key in ("rank", "alpha", "dropout", "targets", "layers", "stages", "last_blocks")
)
_spell = partial(spell_value, form="g")
_WARMUP = {"optim.warmup_fraction", "optim.warmup_steps", "optim.warmup_epochs"}


@dataclass(frozen=True)
class RecordedSpace:
    """A recorded experiment as its space file has it; fields of the recipe that are not fixed have their defaults.

    Without training it has no epochs. It trained on so many regions.
    """

    name: str
    train: bool
    max_epochs: int
    fixed: Mapping[str, Scalar]
    n_regions: int = N_TRAINING_REGIONS


@cache
def list_recorded() -> tuple[RecordedSpace, ...]:
    """Reads the shipped files of the recorded experiments, in the log's order."""
    return tuple(_read_recorded(SPACES_FOLDER / FOLDER / f"{one.name}.yaml", one.name) for one in RECORDED_EXPERIMENTS)


def describe_recorded(
    space: Mapping[str, Parameter], fixed: Mapping[str, Scalar]
) -> list[tuple[str, StartingPoint | str]]:
    """Returns each recorded experiment's name with its point in a space, or with the reason why it has none."""
    return [(one.name, place_recorded(one, space, fixed)) for one in list_recorded()]


def place_recorded(
    one: RecordedSpace, space: Mapping[str, Parameter], fixed: Mapping[str, Scalar]
) -> StartingPoint | str:
    """Returns a recorded experiment as a point of a space, by the module's rule, or why it lies outside."""
    if not one.train:
        return "trained nothing"
    theirs = {**Recipe().to_flat(), **one.fixed}
    mine = {**Recipe().to_flat(), **fixed}
    if "optim.warmup_fraction" in space and not space.keys() & (_WARMUP - {"optim.warmup_fraction"}):
        share = compute_warmup_share(Recipe.from_flat(one.fixed), one.max_epochs, one.n_regions)
        theirs |= {"optim.warmup_fraction": share, "optim.warmup_steps": 0, "optim.warmup_epochs": 0.0}
    idle = _list_idle(theirs)
    faults = [
        f"{name} is {_spell(theirs[name])}, here {_spell(mine[name])}"
        for name in theirs
        if name.startswith(WHAT_IS_TRAINED) and name not in space and name not in idle and theirs[name] != mine[name]
    ]
    values: dict[str, Scalar] = {}
    conditions = list_conditions(space)
    for name in sort_parents_first(space, conditions):
        if name in idle or not applies(name, conditions, values):
            continue
        if contains(space[name], theirs[name]):
            values[name] = theirs[name]
        else:
            faults.append(f"{name} is {_spell(theirs[name])}, {_spell_outside(space[name])}")
    if faults:
        return "; ".join(faults)
    return StartingPoint(f"{FOLDER}/{one.name}", values, _write_note(one, theirs, mine, space, idle))


def compute_warmup_share(recipe: Recipe, max_epochs: int, n_regions: int) -> float:
    """Returns the share of a recorded run's steps that warmed up, on so many training regions."""
    if not (recipe.optim.warmup_steps or recipe.optim.warmup_epochs):
        return recipe.optim.warmup_fraction
    n_steps = max_epochs * math.ceil(n_regions / recipe.optim.batch_size)
    return build_schedule(recipe.optim, n_steps, max_epochs).lr_warmup_steps / n_steps


def _list_idle(values: Mapping[str, Scalar]) -> set[str]:
    """Returns the fields that have no effect beside the others."""
    idle: set[str] = set()
    if values["adapter.kind"] == "none":
        idle |= set(_LAYERS_OF_ADAPTERS)
    if values["adapter.train_decoder"]:
        idle.add("adapter.train_heads")  # they are part of it
    if values["fusion.kind"] == "none":
        idle |= {f"fusion.{key}" for key in ("encoder", "train_encoder", "gate")}
    if values["augment.kind"] in ("none", "flips"):
        idle |= {"augment.strength", "augment.hue"}
    return idle


def _write_note(
    one: RecordedSpace,
    theirs: Mapping[str, Scalar],
    mine: Mapping[str, Scalar],
    space: Mapping[str, Parameter],
    idle: set[str],
) -> str:
    differing = [
        f"{name} {_spell(mine[name])} in place of {_spell(theirs[name])}"
        for name in theirs
        if name not in space and name not in idle and theirs[name] != mine[name]
    ]
    return "; ".join([f"recorded over {one.max_epochs} epochs", *differing])


def _spell_outside(parameter: Parameter) -> str:
    if isinstance(parameter, Choice):
        return f"none of {', '.join(_spell(value) for value in parameter.values)}"
    step = f" in steps of {_spell(parameter.step)}" if parameter.step and parameter.step != 1 else ""
    return f"outside {_spell(parameter.low)} to {_spell(parameter.high)}{step}"


def _read_recorded(path: Path, name: str) -> RecordedSpace:
    top = read_yaml(path, ConfigError)
    entries = top.read_mapping()
    train = entries["train"].read_bool(True) if "train" in entries else True
    fixed = read_fixed(entries["fixed"]) if "fixed" in entries else {}
    epochs = entries["max_epochs"].read_int(1, low=1, high=MAX_COUNT) if "max_epochs" in entries else 0
    return RecordedSpace(name, train, epochs, fixed)

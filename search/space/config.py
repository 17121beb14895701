"""A space file (YAML), checked as a whole and turned into frozen dataclasses."""

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from search.command_line.numbers import MAX_COUNT
from search.errors import ConfigError
from search.space.checks import (
    check_conditions,
    check_conflicts,
    check_fixed_or_searched,
    check_grace_period,
    check_ineffective,
    check_points,
    check_sections,
    report_protocol_faults,
)
from search.space.condition_reader import read_conditions
from search.space.kinds import SamplerConfig, SchedulerConfig, StopConfig, read_sampler, read_scheduler, read_stop
from search.space.layers import read_layers
from search.space.objective import Objective, read_objective, read_scales
from search.space.parameter_reader import read_fixed, read_space
from search.space.parameters import Parameter
from search.space.recorded_points import SPACES_FOLDER, describe_recorded
from search.space.starting_points import StartFrom, StartingPoint, read_start_from
from search.space.tiles import read_tiles, select_parameters
from trainables.errors import find_nearest
from trainables.files.yaml_lines import YamlNode
from trainables.protocol.spec import PROTOCOLS
from trainables.recipe import Scalar
from trainables.tiles.grid import Tiles


@dataclass(frozen=True)
class SearchConfig:
    """One search; without a space a replay, which is a single trial of what is fixed, named as the search.

    Attributes:
        name: Names the search where nothing else is said; the file's stem by default.
        space: What is searched, by flat name (``optim.lr``); empty for a replay. A parameter whose conditions
            do not hold is not drawn, and the trial keeps the recipe's default.
        description: One line for people.
        train: Whether trials train. Where they do not, what is fixed and searched are parts of the protocol
            (``protocol.tta``), and the trials' numbers, each under a protocol of its own, are no ranking.
        protocol: Name of the evaluation protocol, the same for all trials; without training the one whose parts
            are changed.
        objective: What is optimized; without training nothing is.
        scales: Scales of the update at which each epoch is scored; it counts at the best of them by the objective.
        num_trials: How many trials are started; at least 1, and 1 for a replay.
        max_epochs: Epochs of a trial that is not stopped early; at least 1, and 0 without training.
        patience: Epochs after which a trial of the search ends as complete if its validation has not risen above its
            best; those of the warm-up do not count. 0 for none.
        scheduler: When trials are stopped early; never in a replay or without training.
        sampler: How the next trial's values are chosen.
        stop: When no new trial is started before ``num_trials``; None for never.
        tiles: How regions are cut; a part of the protocol. None where each is seen whole.
        fixed: Fields that are the same in all trials. A field that is neither in ``fixed`` nor in
            ``space`` keeps its default.
        start_from: Trials to try first, in this order.
        left_out: Names of recorded experiments that ``start_from: recorded`` left out, each with the reason.
        layers: What was laid over one another: the space files, the one that others extend first, and settings.
    """

    name: str
    space: Mapping[str, Parameter] = field(default_factory=dict)
    description: str = ""
    train: bool = True
    protocol: str = "recorded"
    objective: Objective = Objective()
    scales: tuple[float, ...] = (1.0,)
    num_trials: int = 16
    max_epochs: int = 8
    patience: int = 0
    scheduler: SchedulerConfig = SchedulerConfig()
    sampler: SamplerConfig = SamplerConfig()
    stop: StopConfig | None = None
    tiles: Tiles | None = None
    fixed: Mapping[str, Scalar] = field(default_factory=dict)
    start_from: tuple[StartingPoint, ...] = ()
    # What was asked for, not what the search is: a dumped search has the points in full.
    left_out: tuple[tuple[str, str], ...] = field(default=(), compare=False)
    layers: tuple[str, ...] = field(default=(), compare=False)

    @property
    def is_replay(self) -> bool:
        """Whether nothing varies."""
        return not self.space

    def to_yaml(self) -> str:
        """Returns the text of a space file that needs no other; its first line says what it was made of."""
        text = yaml.safe_dump(self.to_dict(), sort_keys=False, default_flow_style=None, allow_unicode=True, width=120)
        return f"# resolved from: {', '.join(self.layers)}\n{text}"

    def to_dict(self) -> dict[str, object]:
        """Returns the search as a space file would say it: dumped as YAML, it loads as an equal search."""
        said: dict[str, object] = {"name": self.name}
        said |= {"description": self.description} if self.description else {}
        said |= {} if self.train else {"train": False}
        said |= {"protocol": self.protocol}
        said |= {"tiles": dataclasses.asdict(self.tiles)} if self.tiles else {}
        said |= {"objective": self.objective.to_plain()} if self.train else {}
        said |= {"scales": list(self.scales)} if self.scales != SearchConfig.scales else {}
        said |= {"num_trials": self.num_trials}
        said |= {"max_epochs": self.max_epochs} if self.train else {}
        said |= {"patience": self.patience} if self.patience else {}
        said |= {"scheduler": self.scheduler.to_dict(), "sampler": self.sampler.to_dict()}
        said |= {"stop": dataclasses.asdict(self.stop)} if self.stop else {}
        said |= {"fixed": dict(self.fixed)}
        said |= {"space": {name: parameter.to_dict() for name, parameter in self.space.items()}}
        if not self.is_replay:
            said |= {"start_from": [point.to_dict() for point in self.start_from]}
        return said


_KEYS = tuple(item.name for item in dataclasses.fields(SearchConfig) if item.compare)


def list_spaces() -> tuple[str, ...]:
    """Returns the shipped space files, as paths inside the ``spaces`` package: ``recorded/v2.yaml``."""
    folder = SPACES_FOLDER
    return tuple(sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.yaml")))


def find_space(text: str) -> Path:
    """Returns the absolute path of a space file.

    Args:
        text: Path of a file; or, where there is none, the name of a shipped space with or without ``.yaml``.

    Raises:
        ConfigError: If there is neither; it names the shipped spaces and the nearest of them.
    """
    # os.path's own answer is False for text that no path can be.
    return Path(text).resolve() if os.path.isfile(text) else find_shipped(text)


def find_shipped(text: str) -> Path:
    """Returns the path of a shipped space, by its name with or without ``.yaml``.

    Raises:
        ConfigError: If there is none; it names the shipped spaces and the nearest of them.
    """
    shipped = list_spaces()
    for name in (text, f"{text}.yaml"):
        if name in shipped:
            return SPACES_FOLDER / name
    stems = [name.removesuffix(".yaml") for name in shipped]
    nearest = find_nearest(text.removesuffix(".yaml"), stems)
    what = "is a folder, not a space file" if os.path.isdir(text) else "is neither a file nor a shipped space"
    question = f"did you mean {nearest}.yaml? " if nearest else ""
    raise ConfigError.at(text, what, f"{question}shipped are: {', '.join(shipped)}")


def load_config(path: Path, tiles: Tiles | None = None, settings: Sequence[str] = ()) -> SearchConfig:
    """Reads a space file, with what it extends and the settings (``sampler.kind=gp``) over it, and checks it whole.

    Tiles that are given take the place of the file's.

    Raises:
        ConfigError: With everything that is wrong in the file, by line; or why it cannot be read at all.
    """
    top, layers = read_layers(path, settings, find_shipped)
    entries = top.read_mapping(_KEYS)
    if tiles is None and "tiles" in entries:
        tiles = read_tiles(entries["tiles"])
    if "space" in entries:
        entries["space"] = select_parameters(entries["space"], tiles is not None)
    train = entries["train"].read_bool(SearchConfig.train) if "train" in entries else SearchConfig.train
    fixed = read_fixed(entries["fixed"]) if "fixed" in entries else {}
    is_replay = _is_replay(entries, train)
    space = {} if is_replay else _read_space(entries, fixed)
    readers: dict[str, Callable[[YamlNode], Any]] = {
        "name": lambda node: node.read_text(path.stem),
        "description": lambda node: node.read_text(""),
        "protocol": lambda node: node.read_word(SearchConfig.protocol, tuple(PROTOCOLS)),
        "objective": read_objective,
        "scales": read_scales,
        "num_trials": lambda node: node.read_int(SearchConfig.num_trials, low=1, high=MAX_COUNT),
        "max_epochs": lambda node: node.read_int(SearchConfig.max_epochs, low=1, high=MAX_COUNT),
        "patience": lambda node: node.read_int(SearchConfig.patience, low=0, high=MAX_COUNT),
        "scheduler": read_scheduler,
        "stop": read_stop,
        "sampler": read_sampler,
    }
    values = {key: read(entries[key]) for key, read in readers.items() if key in entries}
    values |= {} if train else {"max_epochs": 0}
    values |= {} if train and not is_replay else {"scheduler": SchedulerConfig("none")}
    config = SearchConfig(**({"name": path.stem} | values), train=train, space=space, fixed=fixed, tiles=tiles)
    config = dataclasses.replace(config, layers=layers)
    if "space" not in entries and not is_replay and isinstance(top.value, dict):
        fix = "say what is searched, such as space: {optim.lr: {low: 1.0e-4, high: 1.0e-2}}, or what a replay has fixed"
        top.report("has no space", fix)
    check_fixed_or_searched(entries)
    if train:
        check_grace_period(entries, config.scheduler.grace_period, config.max_epochs)
    check_sections(entries, train, tiles is not None)
    check_ineffective(entries, train, is_replay)
    if not top.problems:
        check_conditions(entries, space)
    if not top.problems and train:
        check_conflicts(entries, space, fixed)
    elif not top.problems:
        report_protocol_faults(entries, PROTOCOLS[config.protocol], space, fixed)
    start = StartFrom((), ()) if is_replay else _read_start(top, entries, config)
    if train and not top.problems:
        check_points(entries, start.points, fixed)
    top.raise_problems()
    if is_replay:
        return dataclasses.replace(config, num_trials=1, start_from=(StartingPoint(config.name, {}),))
    return dataclasses.replace(config, start_from=start.points, left_out=start.left_out)


def _is_replay(entries: Mapping[str, YamlNode], train: bool) -> bool:
    """Returns whether nothing varies; a file that trains must at least fix something, or its space was forgotten."""
    is_empty = "space" not in entries or entries["space"].value == {}
    return is_empty and (not train or ("fixed" in entries and entries["fixed"].value != {}))


def _read_space(entries: Mapping[str, YamlNode], fixed: Mapping[str, Scalar]) -> Mapping[str, Parameter]:
    if "space" not in entries:
        return {}
    return read_conditions(entries["space"], read_space(entries["space"]), entries.get("fixed"), fixed)


def _read_start(top: YamlNode, entries: Mapping[str, YamlNode], config: SearchConfig) -> StartFrom:
    if "start_from" not in entries:
        return StartFrom((), ())

    def find_recorded() -> list[tuple[str, StartingPoint | str]]:
        # Where the file has faults there is no space to be inside of.
        return [] if top.problems else describe_recorded(config.space, config.fixed)

    recorded = find_recorded if config.train else None
    return read_start_from(entries["start_from"], config.space, entries.get("space"), recorded)

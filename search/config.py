"""A space file (YAML), checked as a whole and turned into frozen dataclasses."""

from __future__ import annotations

import dataclasses
import difflib
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from search.condition_reader import read_conditions
from search.errors import ConfigError
from search.space import Parameter, read_space, read_value
from search.starting_points import StartingPoint, read_start_from
from search.yaml_lines import YamlNode, read_yaml
from trainables.errors import Finding
from trainables.recipe import Scalar

SCHEDULER_KINDS = ("asha", "none")
SAMPLER_KINDS = ("tpe", "random")


@dataclass(frozen=True)
class SchedulerConfig:
    """When trials are stopped early.

    Attributes:
        kind: ``asha`` (Li et al. 2018, arXiv 1810.05934) or ``none``: every trial runs all its epochs.
        grace_period: Epochs that every trial gets before it can be stopped; at least 1. Only with ``asha``.
        reduction_factor: One in this many trials goes on at each rung; at least 2. Only with ``asha``.
    """

    kind: str = "asha"
    grace_period: int = 1
    reduction_factor: int = 3

    def to_dict(self) -> dict[str, object]:
        """Returns what a space file would say."""
        return dataclasses.asdict(self) if self.kind == "asha" else {"kind": self.kind}


@dataclass(frozen=True)
class SamplerConfig:
    """How the next trial's values are chosen.

    Attributes:
        kind: ``tpe`` (Bergstra et al. 2011) or ``random``.
        startup_trials: Trials drawn at random before TPE learns from them; at least 1. Only with ``tpe``.
    """

    kind: str = "tpe"
    startup_trials: int = 6

    def to_dict(self) -> dict[str, object]:
        """Returns what a space file would say."""
        return dataclasses.asdict(self) if self.kind == "tpe" else {"kind": self.kind}


@dataclass(frozen=True)
class SearchConfig:
    """One search.

    Attributes:
        name: Names the search where nothing else is said; the file's stem by default.
        space: What is searched, by flat recipe name (``optim.lr``); not empty. A parameter whose conditions
            do not hold is not drawn, and the trial keeps the recipe's default.
        description: One line for people.
        protocol: Name of the evaluation protocol, the same for all trials.
        num_trials: How many trials are started; at least 1.
        max_epochs: Epochs of a trial that is not stopped early; at least 1.
        scheduler: When trials are stopped early.
        sampler: How the next trial's values are chosen.
        fixed: Recipe fields that are the same in all trials. A field that is neither in ``fixed`` nor in
            ``space`` keeps its default.
        start_from: Trials to try first, in this order.
    """

    name: str
    space: Mapping[str, Parameter]
    description: str = ""
    protocol: str = "recorded"
    num_trials: int = 16
    max_epochs: int = 8
    scheduler: SchedulerConfig = SchedulerConfig()
    sampler: SamplerConfig = SamplerConfig()
    fixed: Mapping[str, Scalar] = field(default_factory=dict)
    start_from: tuple[StartingPoint, ...] = ()

    def to_dict(self) -> dict[str, object]:
        """Returns the search as a space file would say it: dumped as YAML, it loads as an equal search."""
        return {
            "name": self.name,
            **({"description": self.description} if self.description else {}),
            "protocol": self.protocol,
            "num_trials": self.num_trials,
            "max_epochs": self.max_epochs,
            "scheduler": self.scheduler.to_dict(),
            "sampler": self.sampler.to_dict(),
            "fixed": dict(self.fixed),
            "space": {name: parameter.to_dict() for name, parameter in self.space.items()},
            "start_from": [{"name": point.name, **point.values} for point in self.start_from],
        }


def list_spaces() -> tuple[str, ...]:
    """Returns the shipped space files, as paths inside the ``spaces`` package: ``recorded/v2.yaml``."""
    folder = _find_spaces_folder()
    return tuple(sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.yaml")))


def find_space(text: str) -> Path:
    """Returns the absolute path of a space file.

    Args:
        text: Path of a file; or, where there is none, the name of a shipped space with or without ``.yaml``.

    Raises:
        ConfigError: If there is neither; it names the shipped spaces and the nearest of them.
    """
    # os.path's own answer is False for text that no path can be.
    if os.path.isfile(text):
        return Path(text).resolve()
    shipped = list_spaces()
    for name in (text, f"{text}.yaml"):
        if name in shipped:
            return _find_spaces_folder() / name
    stems = [name.removesuffix(".yaml") for name in shipped]
    nearest = difflib.get_close_matches(text.removesuffix(".yaml"), stems, n=1, cutoff=0.5)
    what = "is a folder, not a space file" if os.path.isdir(text) else "is neither a file nor a shipped space"
    question = f"did you mean {nearest[0]}.yaml? " if nearest else ""
    raise ConfigError([Finding(text, what, f"{question}shipped are: {', '.join(shipped)}")])


def load_config(path: Path, known_protocols: Collection[str]) -> SearchConfig:
    """Reads a space file and checks it whole.

    Args:
        path: The file.
        known_protocols: Names that ``protocol`` may have.

    Raises:
        ConfigError: With everything that is wrong in the file, by line; or why it cannot be read at all.
    """
    top = read_yaml(path)
    entries = top.read_mapping([item.name for item in dataclasses.fields(SearchConfig)])
    fixed = _read_fixed(entries["fixed"]) if "fixed" in entries else {}
    space: Mapping[str, Parameter] = {}
    if "space" in entries:
        space = read_conditions(entries["space"], read_space(entries["space"]), entries.get("fixed"), fixed)
    readers: dict[str, Callable[[YamlNode], Any]] = {
        "name": lambda node: node.read_text(path.stem),
        "space": lambda node: space,
        "description": lambda node: node.read_text(""),
        "protocol": lambda node: node.read_word(SearchConfig.protocol, tuple(known_protocols)),
        "num_trials": lambda node: node.read_int(SearchConfig.num_trials, low=1),
        "max_epochs": lambda node: node.read_int(SearchConfig.max_epochs, low=1),
        "scheduler": _read_scheduler,
        "sampler": _read_sampler,
        "fixed": lambda node: fixed,
        "start_from": lambda node: read_start_from(node, space, entries.get("space")),
    }
    values = {key: readers[key](node) for key, node in entries.items()}
    config = SearchConfig(**({"name": path.stem, "space": space} | values))
    if "space" not in entries and isinstance(top.value, dict):
        top.report(
            "has no space", "say what is searched, such as space: {optim.lr: {low: 1.0e-4, high: 1.0e-2}}"
        )
    if "protocol" not in entries and config.protocol not in known_protocols:
        top.report(
            f"has no protocol, and there is no {config.protocol!r}",
            f"known are: {', '.join(known_protocols)}",
        )
    _check_fixed_or_searched(entries)
    _check_grace_period(entries, config)
    top.raise_problems()
    return config


def _read_scheduler(node: YamlNode) -> SchedulerConfig:
    entries = node.read_mapping([item.name for item in dataclasses.fields(SchedulerConfig)])
    kind = entries["kind"].read_word(SchedulerConfig.kind, SCHEDULER_KINDS) if "kind" in entries else "asha"
    _report_ignored(entries, kind, needed="asha")
    numbers = {
        key: entries[key].read_int(default, low)
        for key, default, low in (
            ("grace_period", SchedulerConfig.grace_period, 1),
            ("reduction_factor", SchedulerConfig.reduction_factor, 2),
        )
        if key in entries
    }
    return SchedulerConfig(kind, **numbers) if kind == "asha" else SchedulerConfig(kind)


def _read_sampler(node: YamlNode) -> SamplerConfig:
    entries = node.read_mapping([item.name for item in dataclasses.fields(SamplerConfig)])
    kind = entries["kind"].read_word(SamplerConfig.kind, SAMPLER_KINDS) if "kind" in entries else "tpe"
    _report_ignored(entries, kind, needed="tpe")
    if kind != "tpe" or "startup_trials" not in entries:
        return SamplerConfig(kind)
    return SamplerConfig(kind, entries["startup_trials"].read_int(SamplerConfig.startup_trials, low=1))


def _report_ignored(entries: Mapping[str, YamlNode], kind: str, needed: str) -> None:
    for key, node in entries.items():
        if key != "kind" and kind != needed:
            node.report(f"has no effect with kind: {kind}", f"leave it out, or write kind: {needed}")


def _read_fixed(node: YamlNode) -> dict[str, Scalar]:
    values = {name: read_value(name, child) for name, child in node.read_mapping().items()}
    return {name: value for name, value in values.items() if value is not None}


def _check_fixed_or_searched(entries: Mapping[str, YamlNode]) -> None:
    if "fixed" not in entries or "space" not in entries:
        return
    fixed, space = entries["fixed"], entries["space"]
    if not isinstance(fixed.value, dict) or not isinstance(space.value, dict):
        return
    for name, node in fixed.read_mapping().items():
        if name in space.value:
            line = space.lines[(*space.path, name)]
            node.report(f"{name} is fixed here and searched in line {line}", "keep one of the two")


def _check_grace_period(entries: Mapping[str, YamlNode], config: SearchConfig) -> None:
    given = entries["max_epochs"].value if "max_epochs" in entries else config.max_epochs
    if given == config.max_epochs and config.scheduler.grace_period > config.max_epochs:
        entries["scheduler"].read_mapping()["grace_period"].report(
            f"grace_period <= max_epochs must hold, but got grace_period={config.scheduler.grace_period}, "
            f"max_epochs={config.max_epochs}",
            "lower grace_period, raise max_epochs, or write kind: none",
        )


def _find_spaces_folder() -> Path:
    return Path(str(files("spaces")))

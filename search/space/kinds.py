"""The scheduler and the sampler that a space file names, each with the numbers that its kind knows."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from search.command_line.numbers import MAX_COUNT
from trainables.files.yaml_lines import YamlNode, describe

SchedulerKind = Literal["asha", "promotion", "racing", "none"]
SamplerKind = Literal["tpe", "random", "gp", "qmc"]


@dataclass(frozen=True)
class SchedulerConfig:
    """When trials are stopped early.

    Attributes:
        kind: ``asha`` stops a trial at a rung (Li et al. 2018, arXiv 1810.05934); ``promotion`` is the form of that
            paper, in which trials pause at a rung and the best go on; ``racing`` stops a trial that is worse than the
            best one pair by pair; with ``none`` every trial runs all its epochs.
        grace_period: Epochs before a trial can be stopped, which are the first rung: at least 1; or a share of all
            epochs, below 1.
        reduction_factor: One in this many trials goes on at each rung; at least 2.
        quorum: As many trials must have come to a rung before one goes on from it.
        moved: A trial is judged only once its training loss has fallen by this share since its first epoch, and only
            against trials that have: fine-tunes of a strong start get worse before they get better. 0 judges all.
        min_pairs: Least number of (region, class) pairs that can decide.
        p_value: Greatest p-value with which a trial counts as worse; above 0 and below 1.
    """

    kind: SchedulerKind = "asha"
    grace_period: float = 1
    reduction_factor: int = 3
    quorum: int = 1
    moved: float = 0.0
    min_pairs: int = 10
    p_value: float = 0.05

    def count_grace_epochs(self, max_epochs: int) -> int:
        """Returns the grace period in epochs, at least 1."""
        share = self.grace_period < 1
        return max(1, round(self.grace_period * max_epochs)) if share else int(self.grace_period)

    def to_dict(self) -> dict[str, object]:
        """Returns what a space file would say."""
        return _list_said(self, SCHEDULER_OPTIONS)


@dataclass(frozen=True)
class SamplerConfig:
    """How the next trial's values are chosen.

    Attributes:
        kind: ``tpe`` (Bergstra et al. 2011), ``gp`` (a Gaussian process), ``qmc`` (a scrambled Sobol sequence) or
            ``random``.
        startup_trials: Ended trials, at least one, before ``tpe`` or ``gp`` takes over from random values.
    """

    kind: SamplerKind = "tpe"
    startup_trials: int = 6

    def to_dict(self) -> dict[str, object]:
        """Returns what a space file would say."""
        return _list_said(self, SAMPLER_OPTIONS)


@dataclass(frozen=True)
class StopConfig:
    """When a search starts no new trial before it has all of them.

    Attributes:
        patience_trials: The best value has not risen over this many trials, at least 1.
        min_gain: A rise of no more than this counts as none; at least 0.
    """

    patience_trials: int
    min_gain: float = 0.0


# What each kind knows; the first option of each is always said.
SCHEDULER_OPTIONS: Mapping[str, tuple[str, ...]] = {
    "asha": ("grace_period", "reduction_factor", "moved"),
    "promotion": ("grace_period", "reduction_factor", "quorum", "moved"),
    "racing": ("grace_period", "min_pairs", "p_value"),
    "none": (),
}
SAMPLER_OPTIONS: Mapping[str, tuple[str, ...]] = {
    "tpe": ("startup_trials",),
    "random": (),
    "gp": ("startup_trials",),
    "qmc": (),
}
_ALWAYS_SAID = ("grace_period", "reduction_factor", "startup_trials")
_Kinded = TypeVar("_Kinded", SchedulerConfig, SamplerConfig)


def read_scheduler(node: YamlNode) -> SchedulerConfig:
    """Reads ``scheduler`` of a space file; reports what is wrong, and takes the default in its place."""
    return _read_kind(node, SchedulerConfig(), SCHEDULER_OPTIONS)


def read_sampler(node: YamlNode) -> SamplerConfig:
    """Reads ``sampler`` of a space file; see :func:`read_scheduler`."""
    return _read_kind(node, SamplerConfig(), SAMPLER_OPTIONS)


def read_stop(node: YamlNode) -> StopConfig | None:
    """Reads ``stop`` of a space file; reports what is wrong."""
    entries = node.read_mapping(("patience_trials", "min_gain"))
    if "patience_trials" not in entries:
        node.report("has no patience_trials", "write stop: {patience_trials: 16}, or leave it out")
        return None
    patience, gain = entries["patience_trials"].read_int(16, 1, MAX_COUNT), StopConfig.min_gain
    if "min_gain" in entries:
        value = entries["min_gain"].value
        if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1:
            gain = float(value)
        else:
            entries["min_gain"].report(f"must be from 0 to 1, but got {describe(value)}", "write a Dice such as 0.002")
    return StopConfig(patience, gain)


def _read_kind(node: YamlNode, default: _Kinded, options: Mapping[str, tuple[str, ...]]) -> _Kinded:
    known: list[str] = list(dict.fromkeys(option for own in options.values() for option in own))
    entries = node.read_mapping(("kind", *known))
    kind = entries.pop("kind").read_word(default.kind, tuple(options)) if "kind" in entries else default.kind
    values: dict[str, Any] = {"kind": kind}
    for option, child in entries.items():
        if option in options[kind]:
            values[option] = _read_option(option, child, getattr(default, option))
        else:
            having = " or ".join(f"kind: {name}" for name, own in options.items() if option in own)
            child.report(f"has no effect with kind: {kind}", f"leave it out, or write {having}")
    return dataclasses.replace(default, **values)


def _read_option(option: str, node: YamlNode, default: Any) -> Any:
    if option in ("moved", "p_value") or (option == "grace_period" and isinstance(node.value, float)):
        return _read_share(node, default)
    low = 2 if option == "reduction_factor" else 1
    return node.read_int(default, low, MAX_COUNT)


def _read_share(node: YamlNode, default: float) -> float:
    value = node.value
    if isinstance(value, float) and 0 < value < 1:
        return value
    node.report(f"must be a share above 0 and below 1, but got {describe(value)}", "write a number such as 0.3")
    return default


def _list_said(config: SchedulerConfig | SamplerConfig, options: Mapping[str, tuple[str, ...]]) -> dict[str, object]:
    default = type(config)()
    values = {name: getattr(config, name) for name in options[config.kind]}
    said = {name: value for name, value in values.items() if name in _ALWAYS_SAID or value != getattr(default, name)}
    return {"kind": config.kind, **said}

"""Conditions between parameters: where a parameter of a space applies, and how a trial draws only those that do."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING

from search.errors import SearchError
from trainables.recipe import Scalar

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import Trial


@dataclass(frozen=True)
class Condition:
    """That another field of the recipe has one of some values.

    Attributes:
        name: The other field's flat name.
        values: At least one, all different.
    """

    name: str
    values: tuple[Scalar, ...]

    def holds(self, drawn: Mapping[str, object]) -> bool:
        """Returns whether the field is among the drawn ones, with one of the values.

        A field that does not apply itself has not been drawn, so nothing that depends on it applies.
        """
        return self.name in drawn and drawn[self.name] in self.values

    def spell(self) -> str:
        """Returns the condition as a space file would say it: ``augment.kind: [color, all]``."""
        words = [str(value).lower() if isinstance(value, bool) else str(value) for value in self.values]
        return f"{self.name}: {words[0] if len(words) == 1 else '[' + ', '.join(words) + ']'}"


Conditions = tuple[Condition, ...]


def spell_when(when: Conditions) -> dict[str, object]:
    """Returns what a space file would say under a parameter: ``{"when": {...}}``, or nothing without conditions."""
    values = {one.name: one.values[0] if len(one.values) == 1 else list(one.values) for one in when}
    return {"when": values} if values else {}


def list_applying(names: Sequence[str], when: Mapping[str, Conditions], drawn: Mapping[str, object]) -> list[str]:
    """Returns the names whose conditions all hold.

    Args:
        names: Names of parameters.
        when: Conditions by name; a name without any always applies.
        drawn: Values of a trial.
    """
    return [name for name in names if all(condition.holds(drawn) for condition in when.get(name, ()))]


def sort_parents_first(names: Collection[str], when: Mapping[str, Conditions]) -> list[str]:
    """Returns the names in an order in which each follows those that its conditions name.

    Without conditions the order stays as it is.

    Raises:
        SearchError: A condition names something else, or parameters depend on each other.
    """
    for name in names:
        for condition in when.get(name, ()):
            if condition.name not in names:
                raise SearchError(f"{name} depends on {condition.name}, which the space does not search")
    parents = {name: [condition.name for condition in when.get(name, ())] for name in names}
    try:
        return list(TopologicalSorter(parents).static_order())
    except CycleError as error:
        raise SearchError(f"parameters depend on each other: {', '.join(error.args[1][1:])}") from error


def suggest_applying(
    trial: Trial, distributions: Mapping[str, BaseDistribution], when: Mapping[str, Conditions]
) -> None:
    """Draws the parameters that apply, one after the other, as what is drawn first decides about the rest.

    Args:
        trial: A trial that Optuna was asked for; it keeps the values.
        distributions: By name, parents first (see ``sort_parents_first``).
        when: Conditions by name.
    """
    for name, distribution in distributions.items():
        if list_applying([name], when, trial.params):
            _suggest(trial, name, distribution)


def _suggest(trial: Trial, name: str, distribution: BaseDistribution) -> None:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(distribution, CategoricalDistribution):
        trial.suggest_categorical(name, distribution.choices)
    elif isinstance(distribution, IntDistribution):
        trial.suggest_int(
            name, distribution.low, distribution.high, step=distribution.step, log=distribution.log
        )
    else:
        assert isinstance(distribution, FloatDistribution)
        trial.suggest_float(
            name, distribution.low, distribution.high, step=distribution.step, log=distribution.log
        )

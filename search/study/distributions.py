"""Optuna's distributions of a space, and how a trial draws the parameters that apply."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from search.space.parameters import Choice, Conditions, IntRange, Parameter, list_applying

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import Trial


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


def to_distributions(space: Mapping[str, Parameter]) -> dict[str, BaseDistribution]:
    """Returns Optuna's distribution of every parameter; it draws the values that ``contains`` accepts.

    Where a parameter applies is not Optuna's to say: see ``list_conditions``.
    """
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    distributions: dict[str, BaseDistribution] = {}
    for name, parameter in space.items():
        if isinstance(parameter, Choice):
            distributions[name] = CategoricalDistribution(parameter.values)
        elif isinstance(parameter, IntRange):
            distributions[name] = IntDistribution(
                parameter.low, parameter.high, log=parameter.log, step=parameter.step
            )
        else:
            distributions[name] = FloatDistribution(
                parameter.low, parameter.high, log=parameter.log, step=parameter.step
            )
    return distributions

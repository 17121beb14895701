"""Optuna's distributions of a space, and how a trial draws the parameters that apply."""

from collections.abc import Mapping

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import Trial

from search.space.parameters import Choice, Conditions, IntRange, Parameter, applies


def suggest_applying(
    trial: Trial, distributions: Mapping[str, BaseDistribution], when: Mapping[str, Conditions]
) -> None:
    """Draws the parameters that apply, one after the other: what is drawn first decides about the rest.

    The distributions must stand in the order of ``sort_parents_first``.
    """
    for name, one in distributions.items():
        if not applies(name, when, trial.params):
            continue
        if isinstance(one, CategoricalDistribution):
            trial.suggest_categorical(name, one.choices)
        elif isinstance(one, IntDistribution):
            trial.suggest_int(name, one.low, one.high, step=one.step, log=one.log)
        else:
            assert isinstance(one, FloatDistribution)
            trial.suggest_float(name, one.low, one.high, step=one.step, log=one.log)


def to_distributions(space: Mapping[str, Parameter]) -> dict[str, BaseDistribution]:
    """Returns Optuna's distribution of every parameter; it draws the values that ``contains`` accepts.

    Conditions are not part of a distribution: see ``list_conditions``.
    """
    return {name: _to_distribution(parameter) for name, parameter in space.items()}


def _to_distribution(parameter: Parameter) -> BaseDistribution:
    if isinstance(parameter, Choice):
        return CategoricalDistribution(parameter.values)
    if isinstance(parameter, IntRange):
        return IntDistribution(parameter.low, parameter.high, log=parameter.log, step=parameter.step)
    return FloatDistribution(parameter.low, parameter.high, log=parameter.log, step=parameter.step)

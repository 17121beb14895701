"""Samplers of Optuna that follow from a trial's number and the study alone, also where trials pause."""

import copy
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, QMCSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState


class NumberedQMC(QMCSampler):
    """A scrambled Sobol sequence in which a trial's place is its number.

    Optuna counts places in the study, where a draw that a kill interrupted would count too: the one private name of
    optuna 5.0 that is used here is held by tests/search/study/test_samplers.py.
    """

    def __init__(self, seed: int, trial_number: int, independent: BaseSampler) -> None:
        """Takes the seed of the whole sequence, the place, and what draws where the sequence has no dimension."""
        super().__init__(scramble=True, seed=seed, independent_sampler=independent, warn_independent_sampling=False)
        self._trial_number = trial_number

    def _find_sample_id(self, study: Study, search_space: dict[str, BaseDistribution]) -> int:
        return self._trial_number


class PausedAsStopped(BaseSampler):
    """A sampler that sees trials which run, and have a curve, as stopped at its end.

    A scheduler that pauses trials ends most of them only at the end of the search; Optuna's samplers would wait until
    then for something to learn from.
    """

    def __init__(self, sampler: BaseSampler) -> None:
        """Takes the sampler; for one proposal."""
        self._sampler = sampler
        self._view: Study | None = None

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._sampler.infer_relative_search_space(self._see(study), trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._sampler.sample_relative(self._see(study), trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._sampler.sample_independent(self._see(study), trial, param_name, param_distribution)

    def _see(self, study: Study) -> Study:
        if self._view is None:
            self._view = optuna.create_study(directions=study.directions)
            for trial in study.get_trials(deepcopy=False):
                seen = copy.copy(trial)
                if trial.state == TrialState.RUNNING and trial.intermediate_values:
                    seen.state, seen.datetime_complete = TrialState.PRUNED, trial.datetime_start
                self._view.add_trial(seen)
        return self._view

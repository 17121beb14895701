"""The race of the finalists as the folder of their trainings has it: what has ended, and what is trained next."""

import dataclasses
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from search.cluster.checkpoint_storage import CheckpointStorage
from search.judging.race import Standing, follow_race
from search.run_folder.finalists import Finalist, SeedRun
from search.run_folder.trial_folder import ListedTrial, read_best_epoch, read_listed, read_trial_id
from search.space.objective import DICE, Objective
from search.study.trial_attributes import FROM_TRIAL
from trainables.context import SEED_KEY


class SeedRace:
    """Configurations that are trained with several seeds, as long as each can still win.

    Everything follows from the trainings that have ended, which lie on disk: so the searcher, the screen and a resumed
    search, each with a copy of this, come to the same.
    """

    def __init__(
        self,
        finalists: Sequence[Finalist],
        seeds: Sequence[int],
        objective: Objective,
        slots: int,
        folder: Path,
        checkpoints: CheckpointStorage,
    ) -> None:
        """Takes who races, without runs, and for what.

        Args:
            finalists: The best of the search first.
            seeds: What each is to be trained with.
            objective: Decides which epoch counts, and who wins.
            slots: How many are trained at once.
            folder: Of all trainings.
            checkpoints: Where these put their checkpoints.
        """
        self._finalists, self._seeds, self._objective, self._slots = finalists, tuple(seeds), objective, slots
        self._folder, self._checkpoints = folder, checkpoints
        self._ended: dict[str, SeedRun] = {}

    @property
    def configs(self) -> list[dict[str, Any]]:
        """All trainings that there can be: whole recipes by flat names, each with its seed and its trial."""
        return [self._make_config(index, seed) for seed in self._seeds for index in range(len(self._finalists))]

    def read(self, ended: Collection[str] | None = None) -> Standing:
        """Returns where the race stands after trainings that ended, by Ray's ids; None for all that were begun.

        Raises:
            SearchError: If a training's checkpoint cannot be fetched.
        """
        runs: list[list[SeedRun]] = [[] for _ in self._finalists]
        for (index, seed), trial in self._read_begun().items():
            trial_id = read_trial_id(trial.folder)
            if ended is None or trial_id in ended:
                if trial_id not in self._ended:
                    self._checkpoints.fetch(self._folder.name, trial_id)
                    self._ended[trial_id] = read_run(seed, trial, self._objective)
                runs[index].append(self._ended[trial_id])
        by_seed = [sorted(each, key=lambda run: self._seeds.index(run.seed)) for each in runs]
        finalists = [
            dataclasses.replace(each, runs=tuple(its)) for each, its in zip(self._finalists, by_seed, strict=True)
        ]
        return follow_race(finalists, self._seeds, self._objective.label)

    def read_end(self) -> list[Finalist]:
        """Returns the finalists after the race; who would still race has failed with the seeds that are missing."""
        standing = self.read()
        whole = list(standing.finalists)
        for index in standing.racing:
            runs = {run.seed: run for run in whole[index].runs}
            missing = {seed: SeedRun(seed, "", 0, float("nan"), "was not started") for seed in self._seeds}
            whole[index] = dataclasses.replace(whole[index], runs=tuple((missing | runs).values()))
        return whole

    def list_wanted(self, ended: Collection[str]) -> list[dict[str, Any]]:
        """Returns what is to be trained now, by urgency, whether it has been begun or not; see :meth:`read`."""
        return [self._make_config(*each) for each in self.read(ended).list_wanted(self._slots)]

    def count_trainings(self, standing: Standing) -> int:
        """Returns how many trainings there will be at most: those that were begun, and what those that race may get."""
        return len({*self._read_begun(), *standing.list_possible()})

    def _make_config(self, index: int, seed: int) -> dict[str, Any]:
        finalist = self._finalists[index]
        return {**finalist.params, SEED_KEY: seed, FROM_TRIAL: finalist.trial_id}

    def _read_begun(self) -> dict[tuple[int, int], ListedTrial]:
        indices = {each.trial_id: index for index, each in enumerate(self._finalists)}
        return {
            (indices[trial.config[FROM_TRIAL]], trial.config[SEED_KEY]): trial
            for trial in read_listed(self._folder)
            if trial.config.get(FROM_TRIAL) in indices and trial.config.get(SEED_KEY) in self._seeds
        }


def read_run(seed: int, trial: ListedTrial, objective: Objective) -> SeedRun:
    """Returns what came of a training that has ended, at its best epoch by the objective."""
    best = read_best_epoch(trial.folder, objective.metric)
    if trial.failure or best is None:
        return SeedRun(seed, "", 0, float("nan"), trial.failure or "left no checkpoint")
    value = None if objective.metric == DICE else best.value
    return SeedRun(seed, str(best.path), best.epoch, best.val_dice, value=value)

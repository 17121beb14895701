"""Rules of a search that are replayed side by side: what a space file says, changes of it, and opponents by name."""

import dataclasses
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
from ray.tune.experiment import Trial
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, HyperBandScheduler, MedianStoppingRule, TrialScheduler
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from benchmarks.known_answers import Answers
from benchmarks.virtual_tune import VirtualTune
from search.errors import ConfigError
from search.space.config import SearchConfig, load_config
from search.space.parameters import list_conditions, sort_parents_first
from search.space.starting_points import StartingPoint
from search.stages.trials import make_searcher
from search.study.distributions import suggest_applying, to_distributions
from search.study.study_file import StudyFile, make_study_file
from search.tuning.scheduler import make_scheduler

# What the project did when rules were first compared.
FIRST_DEFAULT = {"scheduler": {"kind": "asha", "grace_period": 1, "reduction_factor": 3}}
RANDOM = {"sampler": {"kind": "random"}}


@dataclass(frozen=True)
class Replay:
    """What a rule is given: how many trials, at once how many, and the seed of all that is drawn."""

    answers: Answers
    n_trials: int
    n_slots: int
    seed: int

    def draw_rows(self) -> list[StartingPoint]:
        """Returns the table's random rows in the order of this seed: random proposals without replacement."""
        numbers = np.random.default_rng(self.seed).permutation(self.answers.list_proposable())
        return [StartingPoint(f"row {key}", self.answers.list_searched(int(key))) for key in numbers]


# Prepares a search of one replay.
Rule = Callable[[Replay], VirtualTune]


@dataclass(frozen=True)
class MemoryStudyFile(StudyFile):
    """A study that lives in memory, for the searcher that expects it in a file."""

    study: optuna.Study | None = dataclasses.field(default=None, compare=False)

    def open(self) -> optuna.Study:
        """Returns the study."""
        assert self.study is not None
        return self.study


def make_rule(config: SearchConfig, scratch: Path, uses_rows: bool = True) -> Rule:
    """Returns the rule of a space: its searcher, sampler and scheduler.

    Args:
        config: The space, with its scheduler and sampler.
        scratch: Folder in which the searcher notes what it writes; best in memory.
        uses_rows: Whether random proposals are rows of the table rather than new draws, which a surrogate answers.
    """
    has_rows = uses_rows and config.sampler.kind == "random"

    def prepare(replay: Replay) -> VirtualTune:
        points = config.start_from + (tuple(replay.draw_rows()) if has_rows else ())
        n_trials = min(replay.n_trials, len(points)) if has_rows else replay.n_trials
        planned = dataclasses.replace(config, num_trials=n_trials, start_from=points[:n_trials])
        searcher = make_searcher(planned, _open_study(planned, scratch, replay.seed))
        scheduler = make_scheduler(config.scheduler, config.max_epochs, config.objective.metric, replay.n_slots)
        return VirtualTune(searcher, scheduler, replay.answers.look_up, n_trials, replay.n_slots)

    return prepare


def _open_study(config: SearchConfig, scratch: Path, seed: int) -> StudyFile:
    record: Any = SimpleNamespace(
        config=config.to_dict(), search_id="replay", context=SimpleNamespace(seed=seed, max_epochs=config.max_epochs)
    )
    folder = Path(tempfile.mkdtemp(dir=scratch))
    file = make_study_file(folder, record)
    file.journal.touch()
    study = optuna.create_study(directions=["maximize" if mode == "max" else "minimize" for mode in file.modes])
    fields = {field.name: getattr(file, field.name) for field in dataclasses.fields(file)}
    return MemoryStudyFile(**fields, study=study)


def change_space(space: Path, name: str, changes: Mapping[str, Any], max_epochs: int) -> SearchConfig:
    """Reads a space file with keys laid over it, such as ``{"scheduler": {"kind": "none"}}``.

    Trials have as many epochs as the table's, whatever the file and the keys say.

    Raises:
        ConfigError: If the file with the changes is no space.
    """
    if not isinstance(changes, Mapping):
        raise ConfigError.at(f"--rule {name}", "must be a mapping", "write NAME={scheduler: {kind: asha}}")
    changes = {**changes, "max_epochs": max_epochs}
    return load_config(space, settings=[f"{key}={json.dumps(value)}" for key, value in changes.items()])


def list_opponents(space: Path, config: SearchConfig, scratch: Path, uses_rows: bool) -> dict[str, Rule]:
    """Returns the rules that every other one is compared with, by name."""
    full, last = {"scheduler": {"kind": "none"}}, config.max_epochs
    goal: dict[str, Any] = {"metric": config.objective.metric, "mode": "max"}
    drawn = dataclasses.replace(config, start_from=())
    return {
        "random, full": make_rule(
            change_space(space, "full", full | RANDOM | {"start_from": []}, last), scratch, uses_rows
        ),
        "OptunaSearch + ASHA": make_stock(config),
        "one epoch, best 3": _keep_best(config, 3),
        "one epoch, best 1": _keep_best(config, 1),
        "3 brackets": _make_ray_rule(
            drawn, lambda _: ASHAScheduler(max_t=last, reduction_factor=3, brackets=3, **goal)
        ),
        "hyperband": _make_ray_rule(drawn, lambda _: HyperBandScheduler(max_t=last, reduction_factor=3, **goal)),
        "median rule": _make_ray_rule(
            drawn, lambda _: MedianStoppingRule("training_iteration", grace_period=3, **goal)
        ),
        "starting points": _start_only(change_space(space, "start", full | RANDOM, last), scratch),
        "asha 1 3": make_rule(change_space(space, "default", FIRST_DEFAULT, last), scratch, uses_rows),
    }


def make_stock(config: SearchConfig) -> Rule:
    """Returns what a user of Ray Tune would write first: OptunaSearch and ASHA with their defaults.

    It is given the space's starting points and the last epoch of a training. Its sampler is TPE.
    """
    conditions, found = list_conditions(config.space), to_distributions(config.space)
    distributions = {name: found[name] for name in sort_parents_first(config.space, conditions)}
    metric = config.objective.metric

    def draw(trial: Any) -> None:
        suggest_applying(trial, distributions, conditions)

    def prepare(replay: Replay) -> VirtualTune:
        points: Any = [dict(point.values) for point in config.start_from]
        searcher = OptunaSearch(draw, metric=metric, mode="max", points_to_evaluate=points, seed=replay.seed)
        scheduler = ASHAScheduler(metric=metric, mode="max", max_t=config.max_epochs)
        return VirtualTune(searcher, scheduler, replay.answers.look_up, replay.n_trials, replay.n_slots)

    return prepare


def _keep_best(config: SearchConfig, n_kept: int) -> Rule:
    """Returns the rule that trains all for one epoch, and then the best few to their end (arXiv 2307.15422)."""
    return _make_ray_rule(config, lambda n_trials: OneEpoch(n_trials, n_kept, config.objective.metric))


def _make_ray_rule(config: SearchConfig, make: Callable[[int], TrialScheduler]) -> Rule:
    """Returns the rule of a scheduler, made for a number of trials; after starting points come random rows."""

    def prepare(replay: Replay) -> VirtualTune:
        searcher = ListedSearcher([*config.start_from, *replay.draw_rows()][: replay.n_trials])
        scheduler, n_trials = make(searcher.n_listed), searcher.n_listed
        np.random.seed(replay.seed)  # from which Ray draws the bracket of a trial
        return VirtualTune(searcher, scheduler, replay.answers.look_up, n_trials, replay.n_slots)

    return prepare


def _start_only(config: SearchConfig, scratch: Path) -> Rule:
    """Returns the rule that trains the starting points to their end and nothing else."""
    rule = make_rule(config, scratch)
    return lambda replay: rule(dataclasses.replace(replay, n_trials=len(config.start_from)))


class ListedSearcher(Searcher):
    """Proposes points in their order, and learns nothing."""

    def __init__(self, points: Sequence[StartingPoint]) -> None:
        """Takes whole configurations."""
        super().__init__(metric="val_dice", mode="max")
        self._points = list(points)
        self.n_listed = len(self._points)

    def suggest(self, trial_id: str) -> dict[str, Any] | str:  # type: ignore[override]
        """Returns the next configuration, or FINISHED."""
        return dict(self._points.pop(0).values) if self._points else str(self.FINISHED)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Learns nothing."""


class OneEpoch(FIFOScheduler):
    """Pauses every trial after its first epoch until all have come there; then the best few go on to their end."""

    def __init__(self, n_trials: int, n_kept: int, metric: str) -> None:
        """Takes how many trials there will be, and how many of them go on."""
        super().__init__()  # type: ignore[no-untyped-call]
        self._n_trials, self._n_kept, self._figure = n_trials, n_kept, metric
        self._first: dict[str, float] = {}
        self._kept: set[str] = set()

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Decides after the first epoch."""
        if result["training_iteration"] > 1:
            return TrialScheduler.CONTINUE
        self._first[trial.trial_id] = result[self._figure]
        self._decide(tune_controller, trial)
        if not self._kept:
            return TrialScheduler.PAUSE
        return TrialScheduler.CONTINUE if trial.trial_id in self._kept else TrialScheduler.STOP

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """A trial that failed in its first epoch is out of the comparison."""
        if result["training_iteration"] == 1 and not self._kept:
            self._first[trial.trial_id] = float("-inf")
            self._decide(tune_controller, trial)

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """Chooses those that go on; until they are known new trials alone."""
        known = tune_controller.get_trials()
        return next((trial for trial in known if trial.status == Trial.PAUSED and trial.trial_id in self._kept), None)

    def _decide(self, tune_controller: Any, current: Any) -> None:
        if len(self._first) < self._n_trials:
            return
        order = sorted(self._first, key=lambda trial_id: -self._first[trial_id])
        self._kept = set(order[: self._n_kept])
        for trial in tune_controller.get_trials():
            if trial is not current and trial.trial_id not in self._kept:
                tune_controller.stop_trial(trial)

"""A warm start: what a new search takes from earlier ones, and how that joins its study."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial, TrialState

from search.errors import ConfigError, SearchError
from search.run_folder.layout import find_run
from search.run_folder.search_record import SearchRecord
from search.space.config import SearchConfig
from search.space.recorded_points import RecordedSpace, place_recorded
from search.space.starting_points import StartingPoint
from search.study.study_file import StudyFile, make_study_file
from search.study.trial_attributes import (
    BEST_EPOCH,
    BEST_VALUE,
    CURVE_PREFIX,
    FROM_SEARCH,
    FROM_SEARCH_TRIAL,
    RAY_TRIAL_ID,
    STARTING_POINT,
    read_trials,
)
from trainables.errors import Finding, count_things
from trainables.recipe import Recipe

MAX_POINTS = 3  # configurations to try first of a search whose scores do not compare
MAX_FAULTS = 5  # reasons why nothing of it lies in the space
MAX_SHOWN = 80  # letters of two values that differ
OPTION = "--warm-start"
_LEAVE_OUT = "leave it out"
_ENDED = (TrialState.COMPLETE, TrialState.PRUNED)


@dataclass(frozen=True)
class WarmStart:
    """What a new search takes from earlier ones.

    Attributes:
        trials: Ended trials as they join the study, with the earlier search's name and their id there.
        points: Configurations to try first.
        notes: A sentence on each earlier search.
    """

    trials: tuple[FrozenTrial, ...] = ()
    points: tuple[StartingPoint, ...] = ()
    notes: tuple[str, ...] = ()

    def give_to(self, study_file: StudyFile, num_trials: int) -> None:
        """Adds the trials to a new study, and lines up as many of the configurations as it has trials for."""
        study = study_file.open()
        study.add_trials(self.trials)
        for point in self.points[:num_trials]:
            study.enqueue_trial(dict(point.values), user_attrs={STARTING_POINT: point.name})


def read_warm_start(runs: Sequence[str], storage: Path, config: SearchConfig, facts: Mapping[str, object]) -> WarmStart:
    """Reads earlier searches for a new one.

    Where all facts agree, scores mean the same in both: the ended trials join the study, and the best configuration is
    trained again, as a trial of another search has no checkpoint here by which it could win. Otherwise the best few
    configurations that lie in the new space are tried first.

    Args:
        runs: Names below the storage, or folders.
        facts: What must agree, by its name, as ``SearchRecord.list_facts`` returns it.

    Raises:
        ConfigError: With each search that cannot be read or has nothing that fits, and why.
    """
    if not config.train or config.is_replay:
        raise ConfigError.at(OPTION, f"has no effect: {config.name} searches nothing that is trained", _LEAVE_OUT)
    found: dict[Path, WarmStart] = {}
    findings: list[Finding] = []
    for run in runs:
        try:
            folder = find_run(storage, run, OPTION)
            found[folder] = _read_run(folder, config, facts)
        except SearchError as error:
            own = [Finding(f"{OPTION} {run}", str(error), _LEAVE_OUT)]
            findings += error.findings if isinstance(error, ConfigError) else own
    if findings:
        raise ConfigError(findings)
    return WarmStart(
        tuple(trial for one in found.values() for trial in one.trials),
        _list_distinct(point for one in found.values() for point in one.points),
        tuple(note for one in found.values() for note in one.notes),
    )


def _read_run(folder: Path, config: SearchConfig, facts: Mapping[str, object]) -> WarmStart:
    record, where = SearchRecord.read(folder), f"{OPTION} {folder.name}"
    trials = read_trials(make_study_file(folder, record))
    ended = [trial for trial in trials if trial.state in _ENDED and BEST_VALUE in trial.user_attrs]
    if not record.config.get("train", True) or not ended:
        what = "has no trial that was trained and has ended, complete or stopped early"
        raise ConfigError.at(where, what, _LEAVE_OUT)
    best_first = sorted(ended, key=lambda trial: -trial.user_attrs[BEST_VALUE])
    theirs = record.list_facts()
    differences = [_describe(name, theirs.get(name), mine) for name, mine in facts.items() if theirs.get(name) != mine]
    name = record.search_id
    if not differences:
        best = StartingPoint(_name_point(best_first[0], record), best_first[0].params)
        note = f"{name}: {count_things(len(ended), 'ended trial')}; the best configuration is trained again"
        return WarmStart(tuple(_import(trial, record) for trial in ended), _list_new([best], config), (note,))
    because = f"its scores do not compare with this search's, as these differ: {'; '.join(differences)}"
    points: list[StartingPoint] = []
    faults: dict[str, list[str]] = {}  # by parameter
    for trial in best_first:
        placed = _place(trial, record, config)
        if isinstance(placed, str):
            for fault in placed.split("; "):
                faults.setdefault(fault.partition(" ")[0], []).append(fault)
        else:
            points.append(placed)
    if not points:
        most_common = sorted(faults.values(), key=lambda each: -len(each))[:MAX_FAULTS]
        why = "; ".join(f"{each[0]} ({count_things(len(each), 'trial')} alike)" for each in most_common)
        what = f"{because}. And none of its {count_things(len(ended), 'trial')} lies in the space: {why}"
        raise ConfigError.at(where, what, "widen the space, or leave it out")
    first = _list_distinct(points)[:MAX_POINTS]
    note = f"{name}: {count_things(len(first), 'configuration')} to try first; {because}"
    return WarmStart((), _list_new(first, config), (note,))


def _name_point(trial: FrozenTrial, record: SearchRecord) -> str:
    return f"from {record.search_id} trial {trial.user_attrs[RAY_TRIAL_ID]}"


def _place(trial: FrozenTrial, record: SearchRecord, config: SearchConfig) -> StartingPoint | str:
    """Returns a trial's configuration as a point of the space, or why it lies outside."""
    fixed = {**record.config.get("fixed", {}), **trial.params}
    if unknown := sorted(fixed.keys() - Recipe().to_flat().keys()):
        return f"{', '.join(unknown)} can no longer be set"
    n_regions, epochs = len(record.split["train"]), int(record.config["max_epochs"])
    trained = RecordedSpace(record.search_id, True, epochs, fixed, n_regions)
    placed = place_recorded(trained, config.space, config.fixed)
    return placed if isinstance(placed, str) else replace(placed, name=_name_point(trial, record))


def _list_new(points: Sequence[StartingPoint], config: SearchConfig) -> tuple[StartingPoint, ...]:
    """Returns the points that are not among those that the space file has tried first anyway."""
    known = [point.values for point in config.start_from[: config.num_trials]]
    return tuple(point for point in points if point.values not in known)


def _list_distinct(points: Iterable[StartingPoint]) -> tuple[StartingPoint, ...]:
    """Returns the first of those that have the same values."""
    distinct: dict[str, StartingPoint] = {}
    for point in points:
        distinct.setdefault(str(sorted(point.values.items())), point)
    return tuple(distinct.values())


def _import(trial: FrozenTrial, record: SearchRecord) -> FrozenTrial:
    """Returns an ended trial for another study: its end, values and curve, and where it comes from."""
    kept = {BEST_VALUE, BEST_EPOCH}
    attrs = {name: value for name, value in trial.user_attrs.items() if name in kept or name.startswith(CURVE_PREFIX)}
    return optuna.trial.create_trial(
        state=trial.state,
        values=trial.values,
        params=trial.params,
        distributions=trial.distributions,
        intermediate_values=trial.intermediate_values,
        user_attrs={**attrs, FROM_SEARCH: record.search_id, FROM_SEARCH_TRIAL: trial.user_attrs[RAY_TRIAL_ID]},
    )


def _describe(name: str, theirs: object, mine: object) -> str:
    """Returns how a fact differs: of a mapping the keys, of what is short both values."""
    if isinstance(theirs, Mapping) and isinstance(mine, Mapping):
        keys = [str(key) for key in dict.fromkeys([*theirs, *mine]) if theirs.get(key) != mine.get(key)]
        return f"{name} ({', '.join(keys)})"
    shown = f"{theirs} there, {mine} here"
    return f"{name} ({shown})" if len(shown) < MAX_SHOWN else name

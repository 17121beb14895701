"""What a trial of the study holds besides its parameters: its id in Ray, curve, state and origin."""

from collections import Counter
from collections.abc import Sequence

import optuna
from optuna.trial import FrozenTrial, TrialState

from search.study.study_file import StudyFile

STATE_NAMES = {"COMPLETE": "complete", "PRUNED": "stopped", "FAIL": "failed", "RUNNING": "unfinished"}

TRIAL_NUMBER = "trial_number"  # a trial's place among the search's own, from 0: an MLflow tag

# Names of user attributes of a trial in the study.
RAY_TRIAL_ID = "ray_trial_id"
STARTING_POINT = "starting_point"
REASON = "reason"
BEST_VALUE = "best_value"
BEST_EPOCH = "best_epoch"
CURVE_PREFIX = "curve/"
# The reason of a trial that the time budget stopped before it had reported anything.
NO_RESULT = "stopped before its first result"
# Of a trial that tries a failed one again: that trial's id in Ray.
RETRY_OF = "retry_of"
# Of an ended trial of an earlier search, which this one learns from: that search's name, and the trial's id there.
FROM_SEARCH = "from_search"
FROM_SEARCH_TRIAL = "from_search_trial"

# In the config of a confirmation or refit, beside the recipe's fields: the trial whose recipe it trains again.
FROM_TRIAL = "from_trial"


def read_trials(study_file: StudyFile) -> list[FrozenTrial]:
    """Returns the search's own trials as the study has them."""
    return read_all_trials(study_file)[0]


def read_all_trials(study_file: StudyFile) -> tuple[list[FrozenTrial], list[FrozenTrial]]:
    """Returns the search's own trials, and the ended ones of earlier searches that a warm start gave to the study."""
    study = study_file.read()
    trials = study.get_trials(deepcopy=False) if study else []
    imported = [trial for trial in trials if is_imported(trial)]
    return [trial for trial in trials if not is_imported(trial)], imported


def is_imported(trial: FrozenTrial) -> bool:
    """Whether a trial ran in an earlier search; it has no folder, no MLflow run and no id of Ray's here."""
    return FROM_SEARCH in trial.user_attrs


def name_origin(trial: FrozenTrial) -> str:
    """Returns a trial's id in Ray, after the search's name where that was an earlier one; empty before it has one."""
    attrs = trial.user_attrs
    return (
        f"{attrs[FROM_SEARCH]}/{attrs[FROM_SEARCH_TRIAL]}" if is_imported(trial) else str(attrs.get(RAY_TRIAL_ID, ""))
    )


def list_failed(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Returns the trials that failed and have not been tried again."""
    tried = {trial.user_attrs.get(RETRY_OF) for trial in trials}
    return [each for each in trials if each.state == TrialState.FAIL and each.user_attrs[RAY_TRIAL_ID] not in tried]


def count_states(trials: Sequence[FrozenTrial]) -> dict[str, int]:
    """Counts trials that have begun by how they ended: complete, stopped (early), failed, unfinished, in this order."""
    found = Counter(name_state(trial) for trial in trials if has_begun(trial))
    return {name: found[name] for name in STATE_NAMES.values() if found[name]}


def count_begun(trials: Sequence[FrozenTrial]) -> int:
    """Counts the trials that have begun; what tries a failed one again takes its place in their number."""
    return sum(has_begun(trial) and RETRY_OF not in trial.user_attrs for trial in trials)


def has_begun(trial: FrozenTrial) -> bool:
    """Says whether a trial is more than a starting point or a retry that waits for its turn."""
    return trial.state != TrialState.WAITING


def name_state(trial: FrozenTrial) -> str:
    """Returns how a trial ended, in the user's words: complete, stopped, failed or unfinished."""
    return STATE_NAMES.get(trial.state.name, trial.state.name.lower())


class TrialFinder:
    """Finds the search's trials by their id in Ray, in a study that is opened once: it grows with every trial.

    It can be pickled, and opens the study anew then.
    """

    def __init__(self, study_file: StudyFile) -> None:
        self._study_file = study_file
        self._study: optuna.Study | None = None
        self._origins: dict[str, dict[str, str]] = {}

    def __reduce__(self) -> tuple[type["TrialFinder"], tuple[StudyFile]]:
        return TrialFinder, (self._study_file,)

    def find(self, trial_id: str) -> FrozenTrial | None:
        """Returns the trial, or None where the study has none of this id."""
        self._study = self._study or self._study_file.read()
        trials = self._study.get_trials(deepcopy=False) if self._study else []
        return next((each for each in reversed(trials) if each.user_attrs.get(RAY_TRIAL_ID) == trial_id), None)

    def find_origin(self, trial_id: str) -> dict[str, str]:
        """Returns the MLflow tags of a trial's origin: number (from 0), starting point, failed trial tried again."""
        if trial_id not in self._origins:
            trial = self.find(trial_id)
            if trial is None:
                return {}
            assert self._study is not None
            trials = self._study.get_trials(deepcopy=False)
            number = sum(each.number < trial.number and not is_imported(each) for each in trials)
            names = (name for name in (STARTING_POINT, RETRY_OF) if name in trial.user_attrs)
            origin = {name: str(trial.user_attrs[name]) for name in names}
            self._origins[trial_id] = {TRIAL_NUMBER: str(number), **origin}
        return self._origins[trial_id]


def read_curve(trial: FrozenTrial) -> dict[int, list[float]]:
    """Returns a trial's one or two objectives by epoch."""
    curve = {epoch: [value] for epoch, value in trial.intermediate_values.items()}
    for name, values in trial.user_attrs.items():
        if name.startswith(CURVE_PREFIX):
            curve[int(name.removeprefix(CURVE_PREFIX))] = list(values)
    return curve

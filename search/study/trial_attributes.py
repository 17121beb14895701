"""What a trial of the study holds besides its parameters: its id in Ray, curve, state and origin."""

from collections import Counter
from collections.abc import Sequence

from optuna.trial import FrozenTrial

from search.study.study_file import StudyFile

STATE_NAMES = {"COMPLETE": "complete", "PRUNED": "stopped", "FAIL": "failed", "RUNNING": "unfinished"}

# Names of user attributes of a trial in the study.
RAY_TRIAL_ID = "ray_trial_id"
STARTING_POINT = "starting_point"
REASON = "reason"
BEST_VALUE = "best_value"
BEST_EPOCH = "best_epoch"
CURVE_PREFIX = "curve/"
# The reason of a trial that the time budget stopped before it had reported anything.
NO_RESULT = "stopped before its first result"

# In the config of a confirmation or refit, beside the recipe's fields: the trial whose recipe it trains again.
FROM_TRIAL = "from_trial"


def read_trials(study_file: StudyFile) -> list[FrozenTrial]:
    """Returns the search's trials as the study has them."""
    return study_file.open().get_trials(deepcopy=False)


def count_states(trials: Sequence[FrozenTrial]) -> dict[str, int]:
    """Counts trials by how they ended: complete, stopped (early), failed, unfinished."""
    return dict(Counter(name_state(trial) for trial in trials))


def name_state(trial: FrozenTrial) -> str:
    """Returns how a trial ended, in the user's words: complete, stopped, failed or unfinished."""
    return STATE_NAMES.get(trial.state.name, trial.state.name.lower())


def find_starting_point(study_file: StudyFile, trial_id: str) -> dict[str, str]:
    """Returns the MLflow tag that names a trial's starting point; nothing for a sampled trial."""
    for trial in read_trials(study_file):
        if trial.user_attrs.get(RAY_TRIAL_ID) == trial_id and STARTING_POINT in trial.user_attrs:
            return {"starting_point": str(trial.user_attrs[STARTING_POINT])}
    return {}


def read_curve(trial: FrozenTrial) -> dict[int, list[float]]:
    """Returns a trial's one or two objectives by epoch."""
    curve = {epoch: [value] for epoch, value in trial.intermediate_values.items()}
    for name, values in trial.user_attrs.items():
        if name.startswith(CURVE_PREFIX):
            curve[int(name.removeprefix(CURVE_PREFIX))] = list(values)
    return curve

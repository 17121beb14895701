"""What the study holds of a trial, in the user's words."""

import pickle
from pathlib import Path

import pytest
from optuna.trial import TrialState, create_trial

from search.study.study_file import StudyFile
from search.study.trial_attributes import RAY_TRIAL_ID, STARTING_POINT, TrialFinder, count_states, read_trials


def test_states_are_counted_in_the_users_words() -> None:
    states = [TrialState.PRUNED, TrialState.RUNNING, TrialState.PRUNED, TrialState.FAIL, TrialState.COMPLETE]
    states.append(TrialState.WAITING)  # a starting point, when a time budget ended the search
    trials = [create_trial(state=state, value=0.4 if state == TrialState.COMPLETE else None) for state in states]
    expected = {"complete": 1, "stopped": 2, "failed": 1, "unfinished": 1}
    assert list(count_states(trials).items()) == list(expected.items())


@pytest.mark.parametrize(
    ("trial_id", "tags"),
    [
        ("named", {"trial_number": "0", "starting_point": "plain-lora"}),
        ("sampled", {"trial_number": "1"}),
        ("unknown", {}),
    ],
)
def test_a_starting_point_is_found_by_its_trial(tmp_path: Path, trial_id: str, tags: dict[str, str]) -> None:
    study_file = StudyFile(tmp_path / "study.journal", "a-search")
    study_file.open()
    finder = pickle.loads(pickle.dumps(TrialFinder(study_file)))
    assert finder.find(trial_id) is None  # has the study open before the trials come
    for attrs in ({RAY_TRIAL_ID: "named", STARTING_POINT: "plain-lora"}, {RAY_TRIAL_ID: "sampled"}):
        study_file.open().add_trial(create_trial(value=0.4, user_attrs=attrs))
    assert len(read_trials(study_file)) == 2
    assert finder.find_origin(trial_id) == tags

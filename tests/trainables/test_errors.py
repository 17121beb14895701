from __future__ import annotations

import pickle

import pytest

from trainables.errors import CheckpointError, DataError, Finding, InputError, TrainablesError

FINDINGS = (Finding("a.png", "is empty", "copy it again"), Finding("b.png", "is missing", "add it"))


@pytest.mark.parametrize("kind", [InputError, DataError, CheckpointError])
def test_all_findings_are_told_and_survive_the_way_between_processes(kind: type[InputError]) -> None:
    error = kind(list(FINDINGS))
    assert str(error) == "a.png: is empty -> copy it again\nb.png: is missing -> add it"
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind and again.findings == FINDINGS and str(again) == str(error)
    assert isinstance(error, TrainablesError)


def test_an_error_without_findings_is_a_mistake_of_the_program() -> None:
    with pytest.raises(AssertionError):
        DataError([])

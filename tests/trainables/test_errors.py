from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from trainables.errors import CheckpointError, DataError, Finding, InputError, TrainablesError, collect_findings

FINDINGS = (Finding("a.png", "is empty", "copy it again"), Finding("b.png", "is missing", "add it"))


@pytest.mark.parametrize("kind", [InputError, DataError, CheckpointError])
def test_an_error_shows_all_its_findings_and_survives_pickling(kind: type[InputError]) -> None:
    error = kind(list(FINDINGS))
    assert str(error) == "a.png: is empty -> copy it again\nb.png: is missing -> add it"
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind and again.findings == FINDINGS and str(again) == str(error)
    assert isinstance(error, TrainablesError)


def test_an_error_needs_a_finding() -> None:
    with pytest.raises(AssertionError):
        DataError([])


def test_an_error_of_one_finding_takes_a_path() -> None:
    error = CheckpointError.at(Path("w.pt"), "is empty", "copy it again")
    assert type(error) is CheckpointError and error.findings == (Finding("w.pt", "is empty", "copy it again"),)


def test_findings_are_collected_and_other_errors_pass() -> None:
    found = [FINDINGS[0]]
    with collect_findings(found):
        raise DataError(FINDINGS[1:])
    assert tuple(found) == FINDINGS
    with pytest.raises(OSError), collect_findings(found):
        raise OSError

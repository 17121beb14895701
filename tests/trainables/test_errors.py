import pickle
from pathlib import Path

import pytest

from trainables.errors import (
    CheckpointError,
    DataError,
    Finding,
    InputError,
    TrainablesError,
    collect_findings,
    find_nearest,
    suggest_name,
)

FINDINGS = (Finding("a.png", "is empty", "copy it again"), Finding("b.png", "is missing", "add it"))


@pytest.mark.parametrize("kind", [InputError, DataError, CheckpointError])
def test_an_error_shows_all_its_findings_and_survives_pickling(kind: type[InputError]) -> None:
    error = kind(list(FINDINGS))
    assert str(error) == "a.png: is empty -> copy it again\nb.png: is missing -> add it"
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind and again.findings == FINDINGS and str(again) == str(error)
    assert isinstance(error, TrainablesError)


def test_an_error_of_one_finding_takes_a_path_and_none_is_without() -> None:
    error = CheckpointError.at(Path("w.pt"), "is empty", "copy it again")
    assert type(error) is CheckpointError and error.findings == (Finding("w.pt", "is empty", "copy it again"),)
    with pytest.raises(AssertionError):
        DataError([])


def test_findings_are_collected_and_other_errors_pass() -> None:
    found = [FINDINGS[0]]
    with collect_findings(found):
        raise DataError(FINDINGS[1:])
    assert tuple(found) == FINDINGS
    with pytest.raises(OSError), collect_findings(found):
        raise OSError


@pytest.mark.parametrize(
    ("given", "nearest"), [("r03.PNG", "r03.png"), ("R13.png", "r13.png"), ("r3.png", "r13.png"), ("other", None)]
)
def test_the_nearest_name_may_differ_in_case(given: str, nearest: str | None) -> None:
    assert find_nearest(given, ["r03.png", "r13.png"]) == nearest


def test_without_a_near_name_all_of_a_few_are_listed() -> None:
    assert suggest_name("boxx", ("mask", "box")) == "did you mean 'box'?"
    assert suggest_name("zzz", ("mask", "box")) == "known are: mask, box"
    assert suggest_name("zzz", map(str, range(101))) == "correct or remove it"

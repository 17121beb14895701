"""Samplers that follow from a trial's number and the study alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from search.space.kinds import SAMPLER_OPTIONS, SamplerKind
from search.study.study_file import StudyFile


def ask(source: StudyFile, study: optuna.Study, end: bool = True) -> dict[str, float]:
    """Draws the next trial, with a parameter that only some have, and ends it or lets it wait with a curve."""
    study.sampler = source.make_sampler(len(study.trials), conditional=True)
    trial = study.ask()
    x = trial.suggest_float("x", 0, 1)
    if trial.suggest_categorical("on", [True, False]):
        trial.suggest_float("y", 0, 1)
    trial.report(x, 1)
    if end:
        study.tell(trial, x)
    return dict(trial.params)


@pytest.mark.parametrize("pauses", [False, True])
@pytest.mark.parametrize("kind", SAMPLER_OPTIONS)
def test_a_resumed_search_proposes_the_same(tmp_path: Path, kind: SamplerKind, pauses: bool) -> None:
    """Also where a draw was interrupted, which Optuna would count too."""
    whole, killed = (StudyFile(tmp_path / name, "s", kind, 5, 3, pauses=pauses) for name in "ab")
    study = whole.open()
    expected = [ask(whole, study, not pauses) for _ in range(7)]
    assert len({params["x"] for params in expected}) >= 4  # three random ones; a model may repeat an end of the range
    study = killed.open()
    found = [ask(killed, study, not pauses) for _ in range(4)]
    content = killed.journal.read_bytes()
    ask(killed, study, not pauses)
    killed.journal.write_bytes(content)  # as the journal of a draw that a kill interrupted is mended
    study = killed.open()
    assert found + [ask(killed, study, not pauses) for _ in range(3)] == expected


def test_a_sobol_sequence_covers_the_space_evenly(tmp_path: Path) -> None:
    source = StudyFile(tmp_path / "a", "s", "qmc", 1)
    study = source.open()
    drawn = [ask(source, study)["x"] for _ in range(17)]
    # In a net of 16 places each sixteenth has one; the first trial of all is drawn at random.
    assert len(set(np.floor(np.array(drawn[1:]) * 16))) >= 15


def test_tpe_learns_from_trials_that_pause(tmp_path: Path) -> None:
    def draw(pauses: bool) -> list[float]:
        source = StudyFile(tmp_path / str(pauses), "s", "tpe", 1, 5, pauses=pauses)
        study = source.open()
        drawn = [ask(source, study, end=False)["x"] for _ in range(25)]
        assert {trial.state for trial in study.trials} == {TrialState.RUNNING}
        return drawn[5:]

    assert np.mean(draw(pauses=True)) > np.mean(draw(pauses=False)) + 0.1

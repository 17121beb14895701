"""A journal for the tests of the study and of its file."""

from pathlib import Path

import pytest
from optuna.trial import create_trial

from search.study.study_file import StudyFile


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """The journal of the study ``s``, with three trials."""
    path = tmp_path / "study.journal"
    StudyFile(path, "s").open().add_trials([create_trial(value=0.5)] * 3)
    return path

from pathlib import Path

import pytest

from search.tracking.tracker import Tracker
from search.tracking.trial_runs import RUN_MAP_FILE, SearchRuns, TrialRun


@pytest.fixture
def runs(tmp_path: Path) -> SearchRuns:
    return SearchRuns(Tracker("", ""), "", tmp_path)


def reread(runs: SearchRuns) -> dict[str, TrialRun]:
    return SearchRuns(runs.tracker, runs.parent, runs.folder).by_trial


def test_what_is_written_is_read(runs: SearchRuns) -> None:
    assert runs.by_trial == {}
    for written in ({"old": TrialRun()}, {"a": TrialRun(), "b": TrialRun("1f", 3, 0.5, closed=True, counted=True)}):
        runs.by_trial = written
        runs.write()
        assert reread(runs) == written
    assert list(runs.folder.iterdir()) == [runs.folder / RUN_MAP_FILE]


def test_a_damaged_file_is_a_warning(runs: SearchRuns, damaged: str, caplog: pytest.LogCaptureFixture) -> None:
    (runs.folder / RUN_MAP_FILE).write_text(damaged)
    assert reread(runs) == {}
    assert f"{RUN_MAP_FILE}: cannot be read" in caplog.text


def test_a_write_that_fails_keeps_the_old_map(runs: SearchRuns, caplog: pytest.LogCaptureFixture) -> None:
    runs.by_trial = {"a": TrialRun("1f")}
    runs.write()
    runs.by_trial = {"a": TrialRun(run_id=b"2f")}  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="not JSON serializable"):
        runs.write()
    assert reread(runs) == {"a": TrialRun("1f")}
    gone = SearchRuns(runs.tracker, "", runs.folder / "gone")
    gone.write()
    assert "a resume may log steps twice" in caplog.text and not gone.folder.exists()

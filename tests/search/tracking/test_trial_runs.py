from pathlib import Path

import pytest

from search.tracking.trial_runs import TrialRun, read_trial_runs, write_trial_runs


def test_what_is_written_is_read(tmp_path: Path) -> None:
    runs = {"a": TrialRun(), "b": TrialRun("1f", 3, 0.5, closed=True, counted=True)}
    path = tmp_path / "runs.json"
    assert read_trial_runs(path) == {}
    for written in ({"old": TrialRun()}, runs):
        write_trial_runs(path, written)
        assert read_trial_runs(path) == written
    assert list(tmp_path.iterdir()) == [path]


def test_a_damaged_file_is_a_warning(tmp_path: Path, damaged: str, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "runs.json"
    path.write_text(damaged)
    assert read_trial_runs(path) == {}
    assert "runs.json: cannot be read" in caplog.text


def test_a_write_that_fails_keeps_the_old_map(tmp_path: Path) -> None:
    path = tmp_path / "runs.json"
    write_trial_runs(path, {"a": TrialRun("1f")})
    with pytest.raises(TypeError, match="not JSON serializable"):
        write_trial_runs(path, {"a": TrialRun(run_id=b"2f")})  # type: ignore[arg-type]
    assert read_trial_runs(path) == {"a": TrialRun("1f")}
    with pytest.raises(OSError, match="gone"):
        write_trial_runs(tmp_path / "gone" / "runs.json", {})

"""How a search begins and ends, whatever its stages do."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path
from typing import TextIO

import pytest
from rich.console import Console

from search.command_line.exit_codes import run_command
from search.errors import ConfigError
from search.plan.resume import ResumedSearch
from search.plan.search_plan import SearchPlan
from search.run_folder.layout import CHOSEN_FILE, hold_search
from search.run_folder.search_record import SearchRecord
from search.stages import main_job
from search.stages.main_job import run_search
from search.stages.session import Session
from search.tracking.errors import TrackingError
from search.tracking.tracker import Tracker
from trainables.errors import CheckpointError, DataError, Finding, InputError

FINDINGS = [Finding("confirmation.json", "cannot be read", "bring it back"), Finding("a.pt", "is broken", "mend it")]


@pytest.fixture(autouse=True)
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of two cores, on which nothing is started."""
    monkeypatch.setattr(main_job, "start_ray", lambda address: None)
    monkeypatch.setattr(main_job, "check_shared_storage", lambda storage, folder: None)
    monkeypatch.setattr(main_job, "list_nodes", lambda: [{"CPU": 2.0}])


def begin(plan: SearchPlan, screen: TextIO) -> None:
    """Runs the plan's search."""
    run_search(plan, Console(file=screen))


def resume(plan: SearchPlan, n_more: int = 0, screen: TextIO | None = None) -> None:
    """Goes on with the plan's search, with so many trials more."""
    record = SearchRecord.read(plan.folder)
    config = dataclasses.replace(plan.config, num_trials=int(record.config["num_trials"]) + n_more)
    resumed = ResumedSearch(dataclasses.replace(plan, config=config), record, adds_trials=n_more > 0)
    run_search(resumed.plan, Console(file=screen or io.StringIO()), resumed=resumed)


@pytest.mark.parametrize("is_gone", [False, True], ids=["out of reach", "run deleted"])
def test_a_resume_that_is_refused_keeps_what_was_chosen(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_gone: bool
) -> None:
    folder, tracker = session.plan.folder, session.tracker
    (folder / CHOSEN_FILE).write_text("{}")
    if is_gone:
        tracker.client.delete_run(session.record.parent_run_id)
    else:
        elsewhere = Tracker(f"sqlite:///{tmp_path}/none/mlflow.db", "1")
        monkeypatch.setattr(Tracker, "connect", lambda *_, **__: elsewhere)
    before = SearchRecord.read(folder)
    with pytest.raises(TrackingError):
        resume(session.plan, n_more=1)
    assert (folder / CHOSEN_FILE).exists() and SearchRecord.read(folder) == before


@pytest.mark.parametrize(
    ("kind", "is_new"), [(ConfigError, True), (ConfigError, False), (DataError, False), (CheckpointError, False)]
)
def test_wrong_input_that_a_stage_finds_is_a_search_that_failed(
    plan: SearchPlan,
    session: Session,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    kind: type[ConfigError | InputError],
    is_new: bool,
) -> None:
    def fail(*_: object) -> None:
        raise kind(FINDINGS)

    monkeypatch.setattr(main_job, "_run_stages", fail)
    screen = io.StringIO()
    if is_new:
        plan = dataclasses.replace(
            plan, places=dataclasses.replace(plan.places, name="second", folder=plan.folder.with_name("second"))
        )
        code = run_command(lambda: begin(plan, screen))
    else:
        code = run_command(lambda: resume(plan, screen=screen))
    assert code == 1
    assert "the search stopped" in screen.getvalue() and f"--resume {plan.folder}" in screen.getvalue()
    said = capsys.readouterr().err
    assert said.startswith("error: 2 problems\n") and "nothing was started" not in said
    for finding in FINDINGS:
        assert f"  {finding.where}\n    {finding.what}\n    -> {finding.fix}\n" in said


def test_a_search_that_another_process_runs_is_wrong_input(
    session: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    with hold_search(session.plan.folder):
        assert run_command(lambda: resume(session.plan)) == 2
    assert capsys.readouterr().err.startswith("error: 1 problem; nothing was started\n")

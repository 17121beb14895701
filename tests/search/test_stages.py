"""How a search begins and ends, whatever its stages do."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import pytest
from rich.console import Console

from search import stages
from search.chosen import CHOSEN_FILE
from search.plan import SearchPlan
from search.record import SearchRecord
from search.resume import ResumedSearch
from search.session import Session
from search.stages import run_search
from search.tracking import Tracker
from search.tracking_errors import TrackingError


@pytest.fixture(autouse=True)
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of two cores, on which nothing is started."""
    monkeypatch.setattr(stages, "start_ray", lambda address: None)
    monkeypatch.setattr(stages, "check_shared_storage", lambda storage, folder: None)
    monkeypatch.setattr(stages, "list_resources", lambda: {"CPU": 2.0})


def resume(plan: SearchPlan, n_more: int) -> None:
    """Goes on with the plan's search, with so many trials more."""
    record = SearchRecord.read(plan.folder)
    config = dataclasses.replace(plan.config, num_trials=int(record.config["num_trials"]) + n_more)
    resumed = ResumedSearch(dataclasses.replace(plan, config=config), record)
    run_search(resumed.plan, Console(file=io.StringIO()), resumed=resumed)


@pytest.mark.parametrize("is_gone", [False, True], ids=["out of reach", "run deleted"])
def test_a_resume_that_is_refused_keeps_what_was_chosen(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_gone: bool
) -> None:
    folder, tracker = session.plan.folder, session.tracker
    (folder / CHOSEN_FILE).write_text("{}")
    if is_gone:
        tracker.delete(session.record.parent_run_id)
    else:
        elsewhere = Tracker(f"sqlite:///{tmp_path}/none/mlflow.db", "1")
        monkeypatch.setattr(Tracker, "connect", lambda *_, **__: elsewhere)
    before = SearchRecord.read(folder)
    with pytest.raises(TrackingError):
        resume(session.plan, n_more=1)
    assert (folder / CHOSEN_FILE).exists() and SearchRecord.read(folder) == before

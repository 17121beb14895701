"""A search that begins: its folder, its record and its parent run belong together."""

from __future__ import annotations

import argparse
import dataclasses
import io
import shutil
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from search.cluster import TrialResources
from search.errors import ConfigError
from search.plan import SearchPlan
from search.record import SearchRecord
from search.session import Session, open_session
from search.tracking import Tracker
from search.tracking_errors import TrackingError

RESOURCES = TrialResources(cpus=5, gpus=1.0, concurrent=1)


def make_console(width: int = 40) -> Console:
    return Console(file=io.StringIO(), width=width)


def read_screen(session: Session) -> str:
    file = session.console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def test_folder_record_and_parent_run_are_made(plan: SearchPlan, tracker: Tracker) -> None:
    session = open_session(plan, RESOURCES, tracker, make_console())
    assert SearchRecord.read(plan.folder).make_context() == session.context
    assert (session.context.train, session.context.val) == (plan.split.train, plan.split.val)
    assert (session.context.seed, session.context.n_workers) == (4, 4)
    run = tracker.client.get_run(session.record.parent_run_id)
    assert run.info.run_name == "first"
    tags = run.data.tags
    assert (tags["run_kind"], tags["space"], tags["trainable"]) == ("search", "lora", "SAM2Trainable")
    assert (tags["data_fingerprint"], tags["protocol"], tags["seed"]) == (plan.store.fingerprint, "recorded", "4")
    assert tags["demo"].startswith("demo model")
    assert tags["git_commit"]
    assert run.data.params["max_epochs"] == str(plan.config.max_epochs)
    assert not any(name.startswith("space") for name in run.data.params)
    artifacts = [item.path for item in tracker.client.list_artifacts(run.info.run_id)]
    assert artifacts == ["search.json"]


def test_a_name_that_another_search_just_took_is_refused(plan: SearchPlan, tracker: Tracker) -> None:
    plan.folder.mkdir(parents=True)
    with pytest.raises(ConfigError, match=f"--name first: {plan.folder} exists already"):
        open_session(plan, RESOURCES, tracker, make_console())
    assert tracker.client.search_runs([tracker.experiment_id]) == []


def test_a_name_that_nobody_chose_gets_a_number(plan: SearchPlan, tracker: Tracker) -> None:
    unnamed = dataclasses.replace(plan, arguments=argparse.Namespace(**{**vars(plan.arguments), "name": None}))
    told = [open_session(unnamed, RESOURCES, tracker, make_console()) for _ in range(3)]
    assert [session.plan.name for session in told] == ["first", "first-2", "first-3"]
    for session in told:
        folder = plan.folder.parent / session.plan.name
        assert session.plan.folder == folder and SearchRecord.read(folder).search_id == session.plan.name
        assert tracker.client.get_run(session.record.parent_run_id).info.run_name == session.plan.name


def test_a_store_that_fails_leaves_no_folder(plan: SearchPlan, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    dead = Tracker(f"sqlite:///{tmp_path}/file/mlflow.db", "1")
    with pytest.raises(TrackingError):
        open_session(plan, RESOURCES, dead, make_console())
    assert not plan.folder.exists()


def test_lines_are_printed_as_they_are(plan: SearchPlan, tracker: Tracker) -> None:
    session = open_session(plan, RESOURCES, tracker, make_console(width=20))
    line = "http://127.0.0.1:5000/#/experiments/1?search=[ab12cd34]&order=:smile: and [/b] a long path /a/b/c"
    session.say(line)
    assert read_screen(session) == line + "\n"


def test_an_outage_is_told_and_stops_nothing(plan: SearchPlan, tracker: Tracker) -> None:
    session = open_session(plan, RESOURCES, tracker, make_console())
    session.track(lambda: tracker.finish("no-such-run"))
    assert "MLflow: could not finish the run" in read_screen(session)


def test_errors_of_our_own_are_not_taken_for_an_outage(plan: SearchPlan, tracker: Tracker) -> None:
    session = open_session(plan, RESOURCES, tracker, make_console())
    with pytest.raises(ZeroDivisionError):
        session.track(lambda: 1 / 0)


class LeavingTracker(Tracker):
    """Its store goes away as soon as a run has been opened in it."""

    def _create_run(self, *arguments: Any) -> str:
        run_id = super()._create_run(*arguments)
        store = Path(self.uri.removeprefix("sqlite:///")).parent
        store.rename(store.with_name("gone"))
        return run_id


def test_a_store_that_leaves_once_the_run_is_open_costs_no_parameter(
    plan: SearchPlan, tracker: Tracker, store: Path
) -> None:
    leaving = LeavingTracker(tracker.uri, tracker.experiment_id)
    session = open_session(plan, RESOURCES, leaving, make_console())
    assert SearchRecord.read(plan.folder).parent_run_id == session.record.parent_run_id
    shutil.rmtree(store, ignore_errors=True)  # made anew by what was stored as a file
    store.with_name("gone").rename(store)
    assert session.open_outbox().flush() == 0
    (run,) = tracker.client.search_runs([tracker.experiment_id])
    assert run.info.run_id == session.record.parent_run_id
    assert run.data.params["max_epochs"] == str(plan.config.max_epochs)

"""A search that begins: its folder, its record and its parent run belong together."""

from __future__ import annotations

import dataclasses
import errno
import io
import shutil
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from search.cluster.resources import TrialResources
from search.errors import ConfigError
from search.plan.resume import ResumedSearch
from search.plan.search_plan import SearchPlan
from search.run_folder.layout import CHOSEN_FILE
from search.run_folder.search_record import SearchRecord
from search.stages.session import (
    Session,
    _make_record,
    claim_folder,
    close_early,
    give_back,
    open_session,
    reopen_session,
)
from search.tracking.errors import TrackingError
from search.tracking.tracker import Tracker

RESOURCES = TrialResources(cpus=5, gpus=1.0, concurrent=1)


def begin(plan: SearchPlan, tracker: Tracker) -> Session:
    return open_session(claim_folder(plan), RESOURCES, tracker, Console(file=io.StringIO()))


def reopen(plan: SearchPlan, tracker: Tracker, num_trials: int | None = None) -> Session:
    config = dataclasses.replace(plan.config, num_trials=num_trials or plan.config.num_trials)
    record, adds_trials = SearchRecord.read(plan.folder), config.num_trials > plan.config.num_trials
    resumed = ResumedSearch(dataclasses.replace(plan, config=config), record, adds_trials)
    return reopen_session(resumed, RESOURCES, tracker, Console(file=io.StringIO()))


def test_folder_record_and_parent_run_are_made(plan: SearchPlan, tracker: Tracker) -> None:
    session = begin(plan, tracker)
    assert SearchRecord.read(plan.folder).context == session.context
    assert (session.context.train, session.context.val) == (plan.data.split.train, plan.data.split.val)
    assert (session.context.seed, session.context.n_workers) == (4, 4)
    run = tracker.client.get_run(session.record.parent_run_id)
    assert run.info.run_name == "first"
    tags = run.data.tags
    assert (tags["run_kind"], tags["space"], tags["trainable"]) == ("search", "lora", "SAM2Trainable")
    assert (tags["data_fingerprint"], tags["protocol"], tags["seed"]) == (plan.data.store.fingerprint, "recorded", "4")
    assert tags["demo"].startswith("demo model")
    assert tags["git_commit"]
    assert run.data.params["max_epochs"] == str(plan.config.max_epochs)
    assert not any(name.startswith("space") for name in run.data.params)
    artifacts = [item.path for item in tracker.client.list_artifacts(run.info.run_id)]
    assert artifacts == ["search.json"]


@pytest.mark.parametrize(
    ("uri", "recorded"),
    [("sqlite:////home/jo@lab.org/mlflow.db", True), ("postgresql://h/db?user=u&password=s3cret", False)],
)
def test_the_store_is_recorded_unless_its_uri_holds_a_password(plan: SearchPlan, uri: str, recorded: bool) -> None:
    assert _make_record(plan, RESOURCES, Tracker(uri, "1")).tracking_uri == (uri if recorded else "")


def test_a_name_that_another_search_just_took_is_refused(plan: SearchPlan) -> None:
    plan.folder.mkdir(parents=True)
    with pytest.raises(ConfigError, match=f"--name first: {plan.folder} exists already"):
        claim_folder(plan)


def test_a_name_that_nobody_chose_gets_a_number(plan: SearchPlan, tracker: Tracker) -> None:
    unnamed = dataclasses.replace(plan, options=dataclasses.replace(plan.options, name=None))
    sessions = [begin(unnamed, tracker) for _ in range(3)]
    assert [session.plan.name for session in sessions] == ["first", "first-2", "first-3"]
    for session in sessions:
        folder = plan.folder.parent / session.plan.name
        assert session.plan.folder == folder and SearchRecord.read(folder).search_id == session.plan.name
        assert tracker.client.get_run(session.record.parent_run_id).info.run_name == session.plan.name


def test_a_name_is_given_back_by_a_search_that_does_not_begin(plan: SearchPlan) -> None:
    folder = claim_folder(plan).folder
    with pytest.raises(KeyboardInterrupt), give_back(folder):
        raise KeyboardInterrupt
    assert not folder.exists()


def test_a_store_that_fails_leaves_no_folder(plan: SearchPlan, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    dead = Tracker(f"sqlite:///{tmp_path}/file/mlflow.db", "1")
    with pytest.raises(TrackingError):
        begin(plan, dead)
    assert not plan.folder.exists()


def test_lines_are_printed_as_they_are(session: Session, screen: io.StringIO) -> None:
    line = "http://127.0.0.1:5000/#/experiments/1?search=[ab12cd34]&order=:smile: and [/b] a long path /a/b/c"
    session.say(line)
    assert len(line) > session.console.width and screen.getvalue() == line + "\n"


def test_an_outage_is_reported_and_stops_nothing(session: Session, screen: io.StringIO) -> None:
    session.track(lambda: session.tracker.finish("no-such-run"))
    assert "MLflow: could not finish the run" in screen.getvalue()


def test_errors_of_our_own_are_not_taken_for_an_outage(session: Session) -> None:
    with pytest.raises(ZeroDivisionError):
        session.track(lambda: 1 / 0)


class LeavingTracker(Tracker):
    """Its store goes away as soon as a run has been opened in it."""

    def start_run(self, *arguments: Any) -> str:
        run_id = super().start_run(*arguments)
        store = Path(self.uri.removeprefix("sqlite:///")).parent
        store.rename(store.with_name("gone"))
        return run_id


def test_a_store_that_leaves_once_the_run_is_open_costs_no_parameter(
    plan: SearchPlan, tracker: Tracker, store: Path
) -> None:
    leaving = LeavingTracker(tracker.uri, tracker.experiment_id)
    session = begin(plan, leaving)
    assert SearchRecord.read(plan.folder).parent_run_id == session.record.parent_run_id
    shutil.rmtree(store, ignore_errors=True)  # made anew by what was stored as a file
    store.with_name("gone").rename(store)
    assert session.open_queue().flush() == 0
    (run,) = tracker.client.search_runs([tracker.experiment_id])
    assert run.info.run_id == session.record.parent_run_id
    assert run.data.params["max_epochs"] == str(plan.config.max_epochs)


def test_a_kill_before_the_runs_id_is_written_down_leaves_no_second_run(plan: SearchPlan, tracker: Tracker) -> None:
    session = begin(plan, tracker)
    dataclasses.replace(session.record, parent_run_id="").write(plan.folder)
    again = reopen(plan, tracker)
    assert again.record == SearchRecord.read(plan.folder)
    (run,) = tracker.client.search_runs([tracker.experiment_id])
    assert (run.info.run_id, run.info.status) == (session.record.parent_run_id, "RUNNING")


def test_a_kill_before_the_run_is_opened_is_made_up_for(plan: SearchPlan, tracker: Tracker) -> None:
    session = begin(plan, tracker)
    dataclasses.replace(session.record, parent_run_id="").write(plan.folder)
    tracker.client.delete_run(session.record.parent_run_id)
    parent = reopen(plan, tracker).record.parent_run_id
    run = tracker.client.get_run(parent)
    assert parent != session.record.parent_run_id and run.info.run_name == "first"
    assert run.data.params["max_epochs"] == str(plan.config.max_epochs)
    assert run.data.tags["space"] == "lora"
    assert reopen(plan, tracker, 9).record.parent_run_id == parent
    assert SearchRecord.read(plan.folder).config["num_trials"] == 9


def test_what_was_chosen_is_forgotten_before_the_record_has_more_trials(
    plan: SearchPlan, tracker: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(plan, tracker)
    (plan.folder / CHOSEN_FILE).write_text("{}")
    reopen(plan, tracker)
    assert (plan.folder / CHOSEN_FILE).exists()  # nothing was added
    write, chosen_at_writing = SearchRecord.write, []

    def note(record: SearchRecord, folder: Path) -> None:
        chosen_at_writing.append((folder / CHOSEN_FILE).exists())
        write(record, folder)

    monkeypatch.setattr(SearchRecord, "write", note)
    reopen(plan, tracker, plan.config.num_trials + 1)
    assert chosen_at_writing == [False]


def test_a_disk_that_fills_once_the_run_is_open_keeps_the_search(
    plan: SearchPlan, tracker: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = SearchRecord.write

    def fail(record: SearchRecord, folder: Path) -> None:
        if record.parent_run_id:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(record, folder)

    monkeypatch.setattr(SearchRecord, "write", fail)
    with pytest.raises(OSError, match="No space left"):
        begin(plan, tracker)
    (run,) = tracker.client.search_runs([tracker.experiment_id])
    assert run.info.status == "FAILED"
    monkeypatch.undo()
    assert reopen(plan, tracker).record.parent_run_id == run.info.run_id
    assert tracker.get_run(run.info.run_id).info.status == "RUNNING"


def test_a_record_that_cannot_be_written_leaves_neither_folder_nor_run(
    plan: SearchPlan, tracker: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(record: SearchRecord, folder: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(SearchRecord, "write", fail)
    with pytest.raises(OSError, match="No space left"):
        begin(plan, tracker)
    assert not plan.folder.exists() and tracker.client.search_runs([tracker.experiment_id]) == []


@pytest.mark.parametrize(
    ("error", "status"), [(KeyboardInterrupt(), "KILLED"), (SystemExit(1), "KILLED"), (ValueError("x"), "FAILED")]
)
def test_a_search_that_stops_early_is_closed_and_says_how_it_goes_on(
    session: Session, screen: io.StringIO, error: BaseException, status: str
) -> None:
    with pytest.raises(type(error)), close_early(session):
        raise error
    assert session.tracker.get_run(session.record.parent_run_id).info.status == status
    assert f"--resume {session.plan.folder}" in screen.getvalue()

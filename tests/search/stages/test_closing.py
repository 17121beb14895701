"""The last records of a search: all of them arrive, once, also where MLflow is out of reach at the end."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from PIL import Image

from search.judging.paired_scores import pair_scores
from search.judging.verdict import Verdict, judge
from search.mlflow_pages.notes import NOTE_TAG, PARENT_TAG
from search.run_folder.chosen import discard_choice
from search.run_folder.finalists import Finalist, SeedRun, write_finalists
from search.run_folder.summary import Summary
from search.stages import closing
from search.stages.closing import draw_winner, finish_tracking, list_last_records, write_final_report
from search.stages.session import Session
from search.tracking.bar_runs import RecordedBar, ZeroshotBar
from search.tracking.records import Artifact, End, TrialStart
from search.tracking.search_queue import count_waiting
from search.tracking.tracker import Tracker

SCALES = {0.0: 0.5, 0.5: 0.6, 1.0: 0.55}


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(closing, "PATIENCE_S", 0.0)
    monkeypatch.setattr(closing, "RETRY_S", 0.0)


@pytest.fixture
def verdict() -> Verdict:
    files = [f"{number}.png" for number in range(8)]
    better = [0.7 + 0.01 * number for number in range(8)]
    table = pd.DataFrame({"file": files, "class": "tumor", "patient": files, "winner": better, "zeroshot": 0.5})
    return judge(pair_scores(table, "winner", "zeroshot"))


@pytest.fixture
def ended(session: Session, summary: Summary) -> Summary:
    """The outcome of the session's search, with its files; trial `abc` was chosen, masks were named."""
    folder, overlays = session.plan.folder, session.plan.folder / "overlays"
    (folder / "naming").mkdir()
    (folder / "naming" / "val_naming.txt").write_text("named")
    overlays.mkdir()
    Image.new("RGB", (40, 30)).save(overlays / "0.png")
    for name in ("chosen.json", "test_openings.json"):
        (folder / name).write_text("{}")
    runs = tuple(SeedRun(seed, "/c", 1, 0.55, by_scale=SCALES) for seed in (1, 2))
    other = Finalist("other", 0.4, {}, (SeedRun(1, "/d", 1, 0.4),))
    write_finalists(folder, [other, Finalist("abc", 0.6, {}, runs)], "ab12cd34")
    summary.naming["val_naming_clip_accuracy"] = 0.75
    summary.write(folder)
    return summary


def run_winner(session: Session) -> None:
    """Trial `abc`, as the callback logs it."""
    queue = session.open_queue()
    queue.post(TrialStart("abc", "trial-abc", "trial", {"ray_trial_id": "abc"}, {}))
    queue.post(End(trial_id="abc"))


def read_history(tracker: Tracker, run_id: str, metric: str) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in tracker.client.get_metric_history(run_id, metric)]


def read_children(session: Session) -> list[Any]:
    query = f"tags.`{PARENT_TAG}` = '{session.record.parent_run_id}'"
    return list(session.tracker.client.search_runs([session.tracker.experiment_id], query))


@pytest.mark.parametrize("is_out", [False, True], ids=["there", "out of reach at the end"])
def test_everything_arrives_once(
    session: Session, ended: Summary, verdict: Verdict, store: Path, screen: io.StringIO, is_out: bool
) -> None:
    folder, parent, tracker = session.plan.folder, session.record.parent_run_id, session.tracker
    records = list_last_records(session, ended, verdict, folder / "overlays")
    if is_out:
        store.rename(store.with_name("gone"))
        run_winner(session)
        finish_tracking(session, records)
        assert f"{count_waiting(folder)} records wait for MLflow in {folder}" in screen.getvalue()
        assert f"--resume {folder}" in screen.getvalue()
        store.with_name("gone").rename(store)
    else:
        run_winner(session)
    finish_tracking(session, records)
    assert not count_waiting(folder) and not list(folder.glob("*.rejected.jsonl"))
    run = tracker.client.get_run(parent)
    assert run.info.status == "FINISHED"
    assert (run.data.tags["verdict"], run.data.metrics["val_naming_clip_accuracy"]) == ("beaten", 0.75)
    assert read_history(tracker, parent, "val_dice_by_scale_percent") == [(0, 0.5), (50, 0.6), (100, 0.55)]
    assert read_history(tracker, parent, "test_dice") == [(sum(ended.trials.values()), ended.test.dice)]
    artifacts = {item.path for item in tracker.client.list_artifacts(parent)}
    assert {"search.json", "summary.json", "confirmation.json", "verdict.txt", "naming", "overlays"} <= artifacts
    (winner,) = read_children(session)
    assert winner.data.tags["winner"] == "yes" and winner.info.run_name == "winner · trial-abc"
    assert run.data.tags[NOTE_TAG].startswith("## Zero-shot is beaten")
    assert tracker.client.get_experiment_by_name("recorded") is not None


def test_a_second_end_is_marked_and_has_one_winner(session: Session, ended: Summary, verdict: Verdict) -> None:
    tracker, parent, folder = session.tracker, session.record.parent_run_id, session.plan.folder
    run_winner(session)
    finish_tracking(session, list_last_records(session, ended, verdict, folder / "overlays"))
    discard_choice(folder)
    session.open_queue().post(TrialStart("new", "trial-new", "trial", {"ray_trial_id": "new"}, {}))
    again = dataclasses.replace(
        ended,
        chosen=dataclasses.replace(ended.chosen, trial_id="new"),
        test=dataclasses.replace(ended.test, opening=2, openings=2),
    )
    again.write(folder)
    (folder / "chosen.json").write_text("{}")
    finish_tracking(session, list_last_records(session, again, verdict, folder / "overlays"))
    winners = {run.data.tags["ray_trial_id"]: run.data.tags["winner"] for run in read_children(session)}
    assert winners == {"abc": "no", "new": "yes"}
    tags = tracker.client.get_run(parent).data.tags
    assert (tags["best_trial"], tags["test_openings"]) == ("new", "2") and "opened 2 times" in tags["caveat_test"]


def test_a_stop_in_the_middle_of_the_end_leaves_no_figure_twice(
    session: Session, ended: Summary, verdict: Verdict, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker, parent, step = session.tracker, session.record.parent_run_id, sum(ended.trials.values())

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    def finish(summary: Summary) -> None:
        finish_tracking(session, list_last_records(session, summary, verdict, session.plan.folder / "overlays"))

    run_winner(session)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Tracker, "log_artifact", stop)
        finish(ended)
    finish(ended)
    assert read_history(tracker, parent, "test_dice") == [(step, ended.test.dice)]
    assert read_history(tracker, parent, "val_dice_by_scale_percent") == [(0, 0.5), (50, 0.6), (100, 0.55)]
    finish(dataclasses.replace(ended, test=dataclasses.replace(ended.test, dice=0.25)))  # what is new counts
    finish(ended)
    values = [value for _, value in read_history(tracker, parent, "test_dice")]
    assert values == [ended.test.dice, 0.25, ended.test.dice]
    assert tracker.client.get_run(parent).data.metrics["test_dice"] == ended.test.dice


def test_a_file_that_is_gone_holds_nothing_up(session: Session) -> None:
    finish_tracking(session, [Artifact("/no/such/file"), End()])
    assert session.tracker.get_run(session.record.parent_run_id).info.status == "FINISHED"
    assert "/no/such/file" in (session.plan.folder / "mlflow_closing.rejected.jsonl").read_text()


def test_a_report_that_cannot_be_written_ends_nothing(session: Session, screen: io.StringIO) -> None:
    (session.plan.folder / closing.REPORT_FILE).mkdir()
    assert write_final_report(session) is None
    assert "no report: " in screen.getvalue()


def test_pictures_that_cannot_be_drawn_end_nothing(
    session: Session, screen: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ValueError("Key backend: 'nonsense' is not valid")

    monkeypatch.setattr(closing, "call_with_resources", fail)
    monkeypatch.setattr("search.reporting.page.write_report", fail)
    chosen: Any = SimpleNamespace(refit="", scale=1.0, locate=lambda folder: folder)
    assert draw_winner(session, chosen) is None
    assert write_final_report(session) is None
    assert screen.getvalue().count("'nonsense' is not valid") == 2


def test_bars_wait_before_the_trials(session: Session, store: Path) -> None:
    store.rename(store.with_name("gone"))
    queue = session.open_queue()
    queue.post(RecordedBar(3))
    queue.post(ZeroshotBar({"val_dice": 0.5}, {"split": "val"}, 3))
    run_winner(session)  # by another instance, as a stage after them
    store.with_name("gone").rename(store)
    assert session.open_queue().flush() == 0
    runs = {run.data.tags["run_kind"]: run for run in read_children(session)}
    statuses = {kind: run.info.status for kind, run in runs.items()}
    assert statuses == {"recorded": "FINISHED", "zeroshot": "FINISHED", "trial": "FINISHED"}
    for metric, value in (("val_dice", 0.5), ("bar_zeroshot", 0.5)):
        assert read_history(session.tracker, runs["zeroshot"].info.run_id, metric) == [(0, value), (3, value)]
    recorded = runs["recorded"].data
    assert recorded.metrics == {"test_dice": 0.517, "test_iou": 0.374, "bar_recorded": 0.517}
    assert {"dataset": "BCSS", "protocol": "recorded", "split": "test"}.items() <= recorded.tags.items()

"""Records of a search's own run can be delivered again, and say who they are meant for."""

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from search.tracking.errors import TrackingError, TrackingUnavailable
from search.tracking.records import read_line, to_line
from search.tracking.tracker import Tracker
from search.tracking.trial_runs import SearchRuns

OF_TRIAL, OF_NEW, OF_NEW_TAGS = {"trial_id": "a"}, {"trial_id": "b"}, {"ray_trial_id": "b"}

NEW_TRIAL = {**OF_NEW, "name": "trial 01", "run_kind": "trial", "tags": OF_NEW_TAGS, "params": {"r": 8}}
DATASET = {"name": "small", "digest": "ab12", "uri": "/data", "profile": {"classes": ["tumor"]}}
VIEW = {
    "name": "job",
    "max_epochs": 3,
    "class_names": ["tumor"],
    "parameters": ["optim.lr"],
    "first": [],
    "trains": True,
}


def deliver(tracker: Tracker, parent: str, folder: Path, line: dict[str, Any]) -> None:
    """Delivers a line of a queue, whichever process has left it."""
    record, time_ms = read_line(line)
    assert line.items() <= to_line(record, time_ms).items()
    record.deliver(SearchRuns(tracker, parent, folder), time_ms)


def read_everything(tracker: Tracker) -> dict[str, Any]:
    """Returns what each run of the experiment holds, its histories with all their points."""
    held = {}
    for run in tracker.client.search_runs([tracker.experiment_id]):
        histories = {
            name: [(point.step, point.timestamp, point.value) for point in histories]
            for name in run.data.metrics
            if (histories := tracker.client.get_metric_history(run.info.run_id, name))
        }
        images = [item.path for item in tracker.client.list_artifacts(run.info.run_id, "images")]
        data = [one.dataset.digest for one in run.inputs.dataset_inputs]
        name, files = run.info.run_name, [item.path for item in tracker.client.list_artifacts(run.info.run_id)]
        held[run.info.run_id] = (name, run.info.status, run.data.params, run.data.tags, histories, images, files, data)
    held["experiment"] = tracker.client.get_experiment(tracker.experiment_id).tags
    return held


@pytest.mark.parametrize(
    "record",
    [
        {"event": "params", "params": {"max_epochs": "3"}},
        {"event": "metrics", "metrics": {"test_dice": 0.5}, "step": 3},
        {"event": "tags", "tags": {"verdict": "beaten"}},
        {"event": "tags", "tags": {"winner": "yes"}, **OF_TRIAL},
        {"event": "recorded bar", "max_epochs": 3},
        {"event": "zero-shot bar", "figures": {"val_dice": 0.5}, "tags": {"split": "val"}, "max_epochs": 3},
        {"event": "recorded experiments"},
        {"event": "finish"},
        {"event": "start", **NEW_TRIAL},
        {"event": "metrics", **OF_TRIAL, "metrics": {"val_dice": 0.5}, "step": 1},
        {"event": "progress", **OF_TRIAL, "metrics": {"trials_ended": 1.0}, "step": 1},
        {"event": "finish", **OF_TRIAL, "status": "FINISHED", "tags": {"stopped": "no"}},
        {"event": "finish", **OF_TRIAL, "status": "FINISHED", "tags": {"stopped": "early"}, "end": "stopped at 2"},
        {"event": "choice", **OF_TRIAL, "is_winner": True, "tags": {"verdict": "beaten"}},
        {"event": "data", "dataset": DATASET},
        {"event": "start", **NEW_TRIAL, "dataset": DATASET},
        {"event": "view", "view": VIEW, "winner": "a"},
        {"event": "table", "file": "leaderboard.json", "columns": ["rank"], "rows": [[1]]},
        {"event": "pictures", "folder": "PICTURES", "key": "overlay"},
        {"event": "pictures", "folder": "PICTURES", "key": "overlay", **OF_TRIAL},
    ],
    ids=lambda record: record["event"],
)
def test_a_repetition_changes_nothing(tracker: Tracker, tmp_path: Path, record: dict[str, Any]) -> None:
    parent = tracker.start_run("s", "search")
    tracker.start_child(parent, "trial-a", "trial", {"ray_trial_id": "a"})
    Image.new("RGB", (40, 30)).save(tmp_path / "region.png")
    record = {**record, **({"folder": str(tmp_path)} if "folder" in record else {})}
    before, record = read_everything(tracker), {**record, "time_ms": 1_700_000_000_000}
    deliver(tracker, parent, tmp_path, record)
    after = read_everything(tracker)
    assert after != before or record["event"] == "recorded experiments"  # an experiment of its own
    deliver(tracker, parent, tmp_path, record)
    assert read_everything(tracker) == after


def test_what_can_never_arrive_is_no_outage(tracker: Tracker, tmp_path: Path) -> None:
    parent = tracker.start_run("s", "search")
    for record in (
        {"event": "tags", "tags": {"winner": "yes"}, "trial_id": "unknown"},
        {"event": "artifact", "path": str(tmp_path / "gone"), "into": None},
    ):
        with pytest.raises(TrackingError) as caught:
            deliver(tracker, parent, tmp_path, {**record, "time_ms": 0})
        assert not isinstance(caught.value, TrackingUnavailable)


def test_what_is_no_whole_record_is_refused(tracker: Tracker, tmp_path: Path) -> None:
    parent = tracker.start_run("s", "search")
    for record in (
        *({}, {"event": None}, {"event": []}, {"event": "finish"}, {"event": "finish", "time_ms": "now"}),
        *(
            {"time_ms": 0, **one}
            for one in (
                {"event": "unknown"},
                {"event": "params"},
                {"event": "params", "params": []},
                {"event": "start", **OF_TRIAL},
                {"event": "metrics", **OF_TRIAL, "metrics": [], "step": "x"},
                {"event": "finish", **OF_TRIAL, "status": "x", "tags": {}},
                {"event": "reopen", "trial_id": []},
                {"event": "metrics", "metrics": {"a": "x"}, "step": 1},
                {"event": "metrics", "metrics": {"a": 1}, "step": None},
                {"event": "tags", "tags": {}, "trial_id": []},
                {"event": "zero-shot bar", "figures": {}, "tags": {}, "max_epochs": 3},
            )
        ),
    ):
        with pytest.raises(TrackingError, match=r"^no (whole )?record") as caught:
            deliver(tracker, parent, tmp_path, record)
        assert not isinstance(caught.value, TrackingUnavailable), record


def test_files_outside_the_search_s_folder_are_not_stored(tracker: Tracker, tmp_path: Path) -> None:
    parent, folder = tracker.start_run("s", "search"), tmp_path / "search"
    folder.mkdir()
    for path in (folder / "own.txt", tmp_path / "secret.txt"):
        path.write_text("words")
    (folder / "link").symlink_to(tmp_path / "secret.txt")
    own = {"event": "artifact", "path": str(folder / "own.txt"), "into": None, "time_ms": 0}
    text = {"event": "text", "text": "words", "file": "own.md", "time_ms": 0}
    for record in (
        *({**own, "path": str(path)} for path in (tmp_path / "secret.txt", folder / "../secret.txt", folder / "link")),
        *({**own, "path": path} for path in ("/etc/passwd", "\0", "own.txt")),
        *({**own, "into": into} for into in ("../out", "/out")),
        *({**text, "file": file} for file in ("../out.md", "/out.md", "a/../../out.md")),
    ):
        with pytest.raises(TrackingError, match="lies outside the search's folder|is no name of an artifact") as caught:
            deliver(tracker, parent, folder, record)
        assert not isinstance(caught.value, TrackingUnavailable)
    for record in (own, text):
        deliver(tracker, parent, folder, record)
    assert {each.path for each in tracker.client.list_artifacts(parent)} == {"own.txt", "own.md"}

"""Ray's events against a real sqlite store, read back through MLflow's client."""

import json
import math
import pickle
import shutil
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from search.mlflow_pages.notes import PARENT_TAG
from search.tracking.bar_runs import Bars
from search.tracking.callback import TrackingCallback, select_metrics
from search.tracking.search_queue import SearchQueue, count_waiting
from search.tracking.tracker import Tracker
from search.tracking.trial_runs import TrialRun

ZEROSHOT = {"val_dice": 0.5, "val_iou": 0.4, "val_dice/tumor": 0.6}


def read_history(tracker: Tracker, run_id: str, metric: str) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in tracker.client.get_metric_history(run_id, metric)]


def find_no_tags(trial_id: str) -> dict[str, str]:
    return {}


def list_trials(callback: TrackingCallback) -> list[Any]:
    """Returns the trials' runs in MLflow once all that was posted has been tried."""
    callback.queue.flush()
    tracker = callback.queue.runs.tracker
    return list(tracker.client.search_runs([tracker.experiment_id], "tags.run_kind = 'trial'"))


def make_trial(trial_id: str = "a1", **config: Any) -> Any:
    """What the callback reads of a Ray trial; it has no retries left."""
    return SimpleNamespace(
        trial_id=trial_id,
        config=config or {"rank": 8},
        get_error=lambda: ValueError("loss\nNaN"),
        should_recover=lambda: False,
        status="RUNNING",
    )


def make_result(step: int, val_dice: float = 0.55) -> dict[str, Any]:
    figures = {"val_dice": val_dice, "val_dice/tumor": val_dice + 0.1, "train_loss": 1 / step, "lr": 1e-4}
    speed = {"images_per_s": 3.5, "data_wait_fraction": 0.02, "peak_memory_mb": 900.0, "seconds/train": 2}
    others = {"config": {"rank": 8}, "time_total_s": 9.0, "done": False, "val_comment": "text"}
    return {"training_iteration": step, **figures, **speed, **others}


@pytest.fixture
def parent(tracker: Tracker) -> str:
    return tracker.start_run("s", "search")


@pytest.fixture
def callback(tracker: Tracker, parent: str, tmp_path: Path) -> TrackingCallback:
    tags = {"space": "lora.yaml"}
    queue = SearchQueue(tracker, parent, tmp_path / "search")
    return TrackingCallback(queue, Bars(ZEROSHOT, ("tumor", "stroma")), 3, tags, find_no_tags)


def read_ids(callback: TrackingCallback) -> dict[str, str]:
    """Returns MLflow's run id by Ray's trial id, for the trials that have reached MLflow, after another try."""
    callback.queue.flush()
    return {trial_id: run.run_id for trial_id, run in callback.queue.runs.by_trial.items() if run.run_id}


def run_trial(callback: TrackingCallback, trial: Any, steps: range, dice: float = 0.55) -> None:
    callback.on_trial_start(0, [trial], trial)
    for step in steps:
        callback.on_trial_result(0, [trial], trial, make_result(step, dice + step / 100))


def test_a_whole_trial(callback: TrackingCallback, tracker: Tracker, parent: str) -> None:
    trial = make_trial(rank=8, lora={"targets": ["qkv"]})
    run_trial(callback, trial, range(1, 4))
    callback.on_trial_complete(0, [trial], trial)
    run = tracker.client.get_run(read_ids(callback)["a1"])
    assert run.data.params == {"rank": "8", "lora.targets": "['qkv']"}
    expected = {PARENT_TAG: parent, "run_kind": "trial", "space": "lora.yaml", "ray_trial_id": "a1"}
    assert expected.items() <= run.data.tags.items()
    assert run.info.status == "FINISHED" and run.data.tags["stopped"] == "no"
    assert run.data.metrics == pytest.approx(
        {
            "val_dice": 0.58,
            "val_dice/tumor": 0.68,
            "train_loss": 1 / 3,
            "lr": 1e-4,
            "images_per_s": 3.5,
            "data_wait_fraction": 0.02,
            "peak_memory_mb": 900.0,
            "seconds/train": 2,
            "bar_recorded": 0.517,
            "bar_zeroshot": 0.5,
            "dice_minus_zeroshot": 0.08,
            "dice_minus_zeroshot/tumor": 0.08,
            "best_val_dice": 0.58,
        }
    )
    assert read_history(tracker, run.info.run_id, "bar_zeroshot") == [(1, 0.5), (2, 0.5), (3, 0.5)]


def test_the_run_of_a_trial_that_is_made_anew_stays_open(callback: TrackingCallback, tracker: Tracker) -> None:
    trial = make_trial()
    run_trial(callback, trial, range(1, 3))
    trial.should_recover = lambda: True
    callback.on_trial_error(0, [trial], trial)
    run_trial(callback, trial, range(3, 4))
    callback.on_trial_complete(0, [trial], trial)
    (run,) = list_trials(callback)
    assert run.info.status == "FINISHED" and "failure" not in run.data.tags
    assert [step for step, _ in read_history(tracker, run.info.run_id, "val_dice")] == [1, 2, 3]


def test_stopped_failed_and_interrupted(callback: TrackingCallback, tracker: Tracker) -> None:
    trials = [make_trial(name) for name in ("stopped", "failed", "open", "never-started")]
    for trial in trials[:3]:
        run_trial(callback, trial, range(1, 3))
    callback.on_trial_complete(0, trials, trials[0])
    callback.on_trial_error(0, trials, trials[1])
    callback.on_trial_complete(0, trials, trials[3])
    callback.on_experiment_end(trials)
    runs = {name: tracker.client.get_run(run_id) for name, run_id in read_ids(callback).items()}
    statuses = {name: run.info.status for name, run in runs.items()}
    assert statuses == {"stopped": "FINISHED", "failed": "FAILED", "open": "KILLED"}
    assert runs["stopped"].data.tags["stopped"] == "early" and runs["failed"].data.tags["failure"] == "NaN"


def test_what_a_time_budget_stopped_is_not_interrupted(callback: TrackingCallback, tracker: Tracker) -> None:
    trials = [make_trial(name) for name in ("begun", "barely", "never-started")]
    run_trial(callback, trials[0], range(1, 3))
    callback.on_trial_start(0, trials, trials[1])
    for trial in trials:
        trial.status = "TERMINATED"
    callback.on_experiment_end(trials)
    begun, barely = (tracker.client.get_run(read_ids(callback)[name]) for name in ("begun", "barely"))
    assert (begun.info.status, begun.data.tags["stopped"]) == ("FINISHED", "early")
    assert (barely.info.status, barely.data.tags["failure"]) == ("FAILED", "stopped before its first result")


def test_the_parent_shows_the_best_so_far(callback: TrackingCallback, tracker: Tracker, parent: str) -> None:
    trials = [make_trial(name) for name in "abc"]
    for trial, dice in zip(trials, (0.6, 0.4, 0.7), strict=True):
        run_trial(callback, trial, range(1, 3), dice)
        callback.on_trial_complete(0, trials, trial)
    assert callback.queue.flush() == 0
    n_ended, bests = zip(*read_history(tracker, parent, "best_val_dice"), strict=True)
    assert n_ended == (1, 2, 3) and bests == pytest.approx((0.62, 0.62, 0.72))
    assert tracker.client.get_run(parent).data.metrics["best_dice_minus_zeroshot"] == pytest.approx(0.22)


def test_confirmations_do_not_count_as_the_best_of_the_search(
    callback: TrackingCallback, tracker: Tracker, parent: str
) -> None:
    trial = make_trial("a")
    run_trial(callback, trial, range(1, 3), 0.4)
    callback.queue.runs.by_trial["confirmation"] = TrialRun("run", best_val_dice=0.9)  # the map holds all runs
    callback.on_trial_complete(0, [trial], trial)
    assert callback.queue.flush() == 0
    shown = tracker.get_run(parent).data.metrics
    assert (shown["trials_ended"], shown["best_val_dice"]) == (1, pytest.approx(0.42))


def test_nan_never_becomes_the_best(callback: TrackingCallback, tracker: Tracker) -> None:
    trial = make_trial()
    callback.on_trial_start(0, [trial], trial)
    for step, dice in enumerate([0.6, math.nan, 0.4], start=1):
        callback.on_trial_result(0, [trial], trial, make_result(step, dice))
    run_id = read_ids(callback)["a1"]
    assert read_history(tracker, run_id, "val_dice") == [(1, 0.6), (3, 0.4)]
    assert [value for _, value in read_history(tracker, run_id, "best_val_dice")] == [0.6, 0.6, 0.6]


def test_a_resume_goes_on_in_the_same_run(callback: TrackingCallback, tracker: Tracker) -> None:
    trial = make_trial()
    run_trial(callback, trial, range(1, 3))
    callback.on_experiment_end([trial])
    resumed = pickle.loads(pickle.dumps(callback))
    run_trial(resumed, trial, range(2, 4), dice=0.7)  # the restored trial repeats step 2
    run = tracker.client.get_run(read_ids(callback)["a1"])
    assert run.info.status == "RUNNING"
    resumed.on_trial_complete(0, [trial], trial)
    assert read_ids(resumed) == read_ids(callback)
    assert len(list_trials(callback)) == 1
    steps, values = zip(*read_history(tracker, run.info.run_id, "val_dice"), strict=True)
    assert steps == (1, 2, 3) and values == pytest.approx((0.56, 0.57, 0.73))
    assert tracker.client.get_run(run.info.run_id).data.tags["stopped"] == "no"


def test_a_trial_that_failed_and_then_succeeds_shows_no_failure(callback: TrackingCallback, tracker: Tracker) -> None:
    trial = make_trial()
    run_trial(callback, trial, range(1, 3))
    callback.on_trial_error(0, [trial], trial)
    (failed,) = list_trials(callback)
    assert failed.info.run_name.endswith("· failed") and failed.data.tags["failure"] == "NaN"
    run_trial(callback, trial, range(3, 4))
    (running,) = list_trials(callback)
    callback.on_trial_complete(0, [trial], trial)
    (run,) = list_trials(callback)
    assert (running.info.status, run.info.status) == ("RUNNING", "FINISHED")
    for each in (running, run):
        assert each.info.run_name == failed.info.run_name.removesuffix(" · failed")
        assert "failure" not in each.data.tags


@pytest.mark.parametrize("killed", [False, True], ids=["same-process", "new-process"])
def test_an_outage_leaves_no_gap_and_no_double(
    callback: TrackingCallback, tracker: Tracker, parent: str, store: Path, killed: bool
) -> None:
    first, second = make_trial("first"), make_trial("second")
    run_trial(callback, first, range(1, 2))
    assert callback.queue.flush() == 0
    store.rename(store.with_name("gone"))
    callback.on_trial_result(0, [first], first, make_result(2))
    run_trial(callback, second, range(1, 4))
    callback.on_trial_complete(0, [first, second], second)
    assert set(read_ids(callback)) == {"first"} and callback.queue.flush() == 7
    if killed:
        callback = pickle.loads(pickle.dumps(callback))
    store.with_name("gone").rename(store)
    callback.on_trial_result(0, [first], first, make_result(3))
    assert callback.queue.flush() == 0
    histories = [read_history(tracker, read_ids(callback)[name], "val_dice") for name in ("first", "second")]
    assert [[step for step, _ in history] for history in histories] == [[1, 2, 3], [1, 2, 3]]
    assert len(list_trials(callback)) == 2
    assert tracker.client.get_run(read_ids(callback)["second"]).info.status == "FINISHED"
    assert len(read_history(tracker, parent, "trials_ended")) == 1


def test_no_trial_waits_for_mlflow(
    callback: TrackingCallback, tracker: Tracker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find_child, answers = Tracker.find_child, threading.Event()

    def find_late(*args: Any) -> str | None:
        assert answers.wait(60)
        return find_child(*args)

    monkeypatch.setattr(Tracker, "find_child", find_late)  # a trial's run is looked for first of all
    trial = make_trial()
    run_trial(callback, trial, range(1, 4))
    callback.on_trial_complete(0, [trial], trial)
    assert count_waiting(tmp_path / "search") == 6  # the trial's start and end, three epochs, and the sum of the search
    answers.set()
    copy = pickle.loads(pickle.dumps(callback))  # as the one that settles what Tune's has left
    assert copy.settle() == 0 and count_waiting(tmp_path / "search") == 0
    assert [step for step, _ in read_history(tracker, read_ids(copy)["a1"], "val_dice")] == [1, 2, 3]
    assert len(list_trials(copy)) == 1


def test_nobody_waits_long_for_a_store_that_is_slow(
    callback: TrackingCallback, tracker: Tracker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_metrics, asked, answers = Tracker.log_metrics, threading.Event(), threading.Event()

    def log_slowly(*args: Any) -> None:
        asked.set()
        assert answers.wait(60)
        log_metrics(*args)

    monkeypatch.setattr(Tracker, "log_metrics", log_slowly)
    monkeypatch.setattr("search.tracking.search_queue.WAIT_S", 0.0)
    trial = make_trial()
    run_trial(callback, trial, range(1, 4))
    assert asked.wait(60)  # the first epoch is under way
    threading.Timer(0.5, answers.set).start()
    assert callback.queue.flush() == 2  # it arrives, and the others are left for later
    callback.on_trial_complete(0, [trial], trial)
    monkeypatch.undo()
    assert callback.queue.flush() == 0
    assert [step for step, _ in read_history(tracker, read_ids(callback)["a1"], "val_dice")] == [1, 2, 3]


def test_records_replayed_change_nothing(callback: TrackingCallback, tracker: Tracker, tmp_path: Path) -> None:
    folder = tmp_path / "search"
    store = Path(tracker.uri.removeprefix("sqlite:///")).parent
    store.rename(store.with_name("gone"))
    run_trial(callback, make_trial(), range(1, 4))
    records = (folder / "mlflow_outbox.jsonl").read_bytes()
    store.with_name("gone").rename(store)
    assert callback.queue.flush() == 0
    (folder / "mlflow_outbox.jsonl").write_bytes(records)  # killed before the file was emptied
    (folder / "mlflow_runs.json").unlink()  # and before the map was written
    reborn = pickle.loads(pickle.dumps(callback))
    assert reborn.queue.flush() == 0 and read_ids(reborn) == read_ids(callback)
    assert len(read_history(tracker, read_ids(reborn)["a1"], "val_dice")) == 3


def test_lines_that_are_no_whole_records_are_refused_once(
    callback: TrackingCallback, tracker: Tracker, parent: str, tmp_path: Path
) -> None:
    folder = tmp_path / "search"
    broken = [
        {},
        {"trial_id": "a1"},
        {"trial_id": "a1", "time_ms": 0, "event": "metrics"},
        {"event": "artifact", "path": "/etc/passwd", "into": None, "time_ms": 0},
    ]
    whole = {"event": "tags", "tags": {"delivered": "yes"}, "time_ms": 0}
    lines = [json.dumps(line) for line in (*broken, whole)]
    (folder / "mlflow_outbox.jsonl").write_text("\n".join(["[]", *lines, ""]))
    reborn = pickle.loads(pickle.dumps(callback))
    assert reborn.queue.flush() == 0 and not read_ids(reborn)
    refused = (folder / "mlflow_outbox.rejected.jsonl").read_text().splitlines()
    assert [json.loads(line)["record"] for line in refused] == broken
    assert tracker.client.get_run(parent).data.tags["delivered"] == "yes"
    assert not tracker.client.list_artifacts(parent)
    assert pickle.loads(pickle.dumps(callback)).queue.flush() == 0


@pytest.mark.parametrize("content", ["", "[]", '{"a1": 5}', "[" * 100_000])
def test_a_damaged_map_is_mended_from_what_mlflow_has(
    callback: TrackingCallback, tracker: Tracker, tmp_path: Path, content: str
) -> None:
    trial = make_trial()
    run_trial(callback, trial, range(1, 3))
    callback.on_experiment_end([trial])
    (tmp_path / "search" / "mlflow_runs.json").write_text(content)
    reborn = pickle.loads(pickle.dumps(callback))
    reborn.take_up("a1")
    reborn.take_up("unknown")
    assert read_ids(reborn) == read_ids(callback)
    run_trial(reborn, trial, range(2, 4), dice=0.7)  # the restored trial repeats step 2
    run_id = read_ids(callback)["a1"]
    assert tracker.get_run(run_id).info.status == "RUNNING" and len(list_trials(callback)) == 1
    assert [step for step, _ in read_history(tracker, run_id, "val_dice")] == [1, 2, 3]
    assert read_ids(pickle.loads(pickle.dumps(callback))) == read_ids(callback)


def test_a_hook_that_fails_does_not_stop_the_search(callback: TrackingCallback, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "search")
    run_trial(callback, make_trial(), range(1, 3))
    callback.on_trial_result(0, [], make_trial(), {"no": "step"})


def test_only_figures_of_known_names_are_logged() -> None:
    figures = {"val_dice/tumor": 0.5, "lr": 1, "lr/head": 1e-3, "update_scale": 0.5}
    others = {"lrx": 1e-3, "time_total_s": 9.0, "val_is_best": True, "val_comment": "text"}
    assert select_metrics({**figures, **others}) == figures

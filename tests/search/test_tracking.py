"""The tracker and its Ray callback against a real sqlite store, read back through MLflow's client."""

from __future__ import annotations

import math
import os
import pickle
import shutil
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

from search.errors import SearchError
from search.mlflow_ui import PARENT_TAG
from search.tracking import Tracker, resolve_tracking_uri
from search.tracking_errors import TrackingError, TrackingUnavailable, call_within

ZEROSHOT = {"val_dice": 0.5, "val_iou": 0.4, "val_dice/tumor": 0.6}


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with its tables made, which takes seconds: each test works on a copy."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def store(empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory that holds a store as MLflow itself would place it there."""
    folder = tmp_path / "work"
    folder.mkdir()
    shutil.copy(empty_store, folder / "mlflow.db")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def tracker(store: Path) -> Tracker:
    return Tracker.connect("lora", None)


def read_history(tracker: Tracker, run_id: str, metric: str) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in tracker.client.get_metric_history(run_id, metric)]


def list_runs(tracker: Tracker, query: str = "") -> list[Any]:
    return list(tracker.client.search_runs([tracker.experiment_id], query))


class TestConnect:
    def test_default_store_is_absolute_and_in_the_working_directory(
        self, store: Path, tracker: Tracker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir("/")
        run_id = tracker.start_search("s")
        tracker.log_text(run_id, "text", "folder/note.txt")
        assert tracker.uri == f"sqlite:///{store}/mlflow.db"
        artifact = store / "mlruns" / tracker.experiment_id / run_id / "artifacts" / "folder" / "note.txt"
        assert artifact.read_text() == "text"

    def test_second_connect_finds_the_experiment(self, tracker: Tracker) -> None:
        assert Tracker.connect("lora", None).experiment_id == tracker.experiment_id

    def test_artifact_root_is_honored(self, store: Path, tmp_path: Path) -> None:
        tracker = Tracker.connect("elsewhere", tmp_path / "artifacts")
        tracker.log_dict(tracker.start_search("s"), {"a": 1}, "config.yaml")
        assert len(list((tmp_path / "artifacts").rglob("config.yaml"))) == 1

    def test_deleted_experiment_is_told(self, tracker: Tracker) -> None:
        tracker.client.delete_experiment(tracker.experiment_id)
        with pytest.raises(SearchError, match="has been deleted"):
            Tracker.connect("lora", None)

    def test_dead_server_is_told(self, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:secret@127.0.0.1:9")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")  # the default of 2 takes 4 s here
        with pytest.raises(SearchError, match=r"127\.0\.0\.1:9.*cannot be used") as caught:
            Tracker.connect("lora", None)
        assert "secret" not in str(caught.value).split("cannot be used")[0]

    def test_call_that_hangs_is_given_up(self) -> None:
        with pytest.raises(TrackingUnavailable, match="no answer"):
            call_within(0.05, lambda: time.sleep(2))

    @pytest.mark.parametrize(
        ("given", "resolved"),
        [
            ("sqlite:///my.db", "sqlite:///{cwd}/my.db"),
            ("sqlite:////abs/my.db", "sqlite:////abs/my.db"),
            ("http://host:5000", "http://host:5000"),
            ("file:runs", "file://{cwd}/runs"),
            ("./runs", "file://{cwd}/runs"),
            ("postgresql://u:p@host/db", "postgresql://u:p@host/db"),
        ],
    )
    def test_relative_stores_become_absolute(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, resolved: str
    ) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", given)
        assert resolve_tracking_uri() == resolved.format(cwd=tmp_path)


class TestRuns:
    def test_nesting_tags_params_and_status(self, tracker: Tracker) -> None:
        parent = tracker.start_search("search", {"space": "lora.yaml"}, {"seed": 1})
        params = {f"p{i}": i for i in range(230)} | {"long": "x" * 9000, "nested": {"rank": 8}}
        child = tracker.start_child(parent, "t", "trial", {"git_commit": "abc"}, params)
        tracker.finish(child, "FAILED")
        run = tracker.client.get_run(child)
        assert run.data.tags[PARENT_TAG] == parent and run.data.tags["run_kind"] == "trial"
        assert run.info.status == "FAILED" and run.data.params["nested.rank"] == "8"
        assert len(run.data.params) == 232 and len(run.data.params["long"]) == 6000
        assert tracker.client.get_run(parent).data.tags["run_kind"] == "search"
        assert tracker.find_child(parent, {"git_commit": "abc"}) == child
        assert tracker.find_child(parent, {"git_commit": "other"}) is None

    @pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
    def test_what_is_not_finite_is_left_out_and_counted(self, tracker: Tracker, bad: float) -> None:
        run_id = tracker.start_search("s")
        for step in (1, 2):
            tracker.log_metrics(
                run_id, {"val_dice": bad, "train_loss/dice": 0.5, "necrosis (debris)": 1.0}, step
            )
        metrics = tracker.client.get_run(run_id).data.metrics
        assert metrics == {"train_loss/dice": 0.5, "necrosis _debris_": 1.0}
        assert tracker.n_dropped == {"val_dice": 2}

    def test_the_same_record_twice_stands_once(self, tracker: Tracker) -> None:
        run_id = tracker.start_search("s")
        for _ in range(2):
            tracker.log_metrics(run_id, {"a": 0.5}, 3, timestamp_ms=1_000)
        assert read_history(tracker, run_id, "a") == [(3, 0.5)]

    def test_errors_say_whether_to_try_again(self, tracker: Tracker, store: Path) -> None:
        run_id = tracker.start_search("s", params={"p": 1})
        with pytest.raises(TrackingError) as caught:
            tracker.log_params(run_id, {"p": 2})
        assert not isinstance(caught.value, TrackingUnavailable)
        store.rename(store.with_name("gone"))
        with pytest.raises(TrackingUnavailable):
            tracker.log_metrics(run_id, {"a": 1.0}, 1)

    def test_bars_are_logged_once_and_as_lines(self, tracker: Tracker) -> None:
        parent = tracker.start_search("s")
        for _ in range(2):
            recorded = tracker.log_recorded_bar(parent, max_epochs=8)
            zeroshot = tracker.log_zeroshot_bar(parent, ZEROSHOT, {"protocol": "recorded"}, max_epochs=8)
        assert len(list_runs(tracker)) == 3
        run = tracker.client.get_run(recorded)
        assert run.data.metrics == {"test_dice": 0.517, "test_iou": 0.374, "bar_recorded": 0.517}
        expected = {"dataset": "BCSS", "protocol": "recorded", "split": "test", "run_kind": "recorded"}
        assert expected.items() <= run.data.tags.items()
        assert read_history(tracker, zeroshot, "val_dice") == [(0, 0.5), (8, 0.5)]
        assert tracker.client.get_run(zeroshot).info.status == "FINISHED"


def make_trial(trial_id: str = "a1", **config: Any) -> Any:
    """What the callback reads of a Ray trial."""
    return SimpleNamespace(
        trial_id=trial_id, config=config or {"rank": 8}, get_error=lambda: ValueError("loss\nNaN")
    )


def make_result(step: int, val_dice: float = 0.55) -> dict[str, Any]:
    return {
        "training_iteration": step,
        "val_dice": val_dice,
        "val_dice/tumor": val_dice + 0.1,
        "train_loss": 1 / step,
        "lr": 1e-4,
        "images_per_s": 3.5,
        "seconds/train": 2,
        "config": {"rank": 8},
        "time_total_s": 9.0,
        "done": False,
        "val_comment": "text",
    }


class TestCallback:
    @pytest.fixture
    def parent(self, tracker: Tracker) -> str:
        return tracker.start_search("s")

    @pytest.fixture
    def callback(self, tracker: Tracker, parent: str, tmp_path: Path) -> Any:
        from search.tune_callback import TrackingCallback

        tags = {"space": "lora.yaml"}
        return TrackingCallback(tracker, parent, ZEROSHOT, 3, ["tumor", "stroma"], tags, tmp_path / "search")

    def run_trial(self, callback: Any, trial: Any, steps: range, dice: float = 0.55) -> None:
        callback.on_trial_start(0, [trial], trial)
        for step in steps:
            callback.on_trial_result(0, [trial], trial, make_result(step, dice + step / 100))

    def test_a_whole_trial(self, callback: Any, tracker: Tracker, parent: str) -> None:
        trial = make_trial(rank=8, lora={"targets": ["qkv"]})
        self.run_trial(callback, trial, range(1, 4))
        callback.on_trial_complete(0, [trial], trial)
        run = tracker.client.get_run(callback.run_ids["a1"])
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
                "seconds/train": 2,
                "bar_recorded": 0.517,
                "bar_zeroshot": 0.5,
                "dice_minus_zeroshot": 0.08,
                "dice_minus_zeroshot/tumor": 0.08,
                "best_val_dice": 0.58,
            }
        )
        assert read_history(tracker, run.info.run_id, "bar_zeroshot") == [(1, 0.5), (2, 0.5), (3, 0.5)]

    def test_stopped_failed_and_interrupted(self, callback: Any, tracker: Tracker) -> None:
        trials = [make_trial(name) for name in ("stopped", "failed", "open", "never-started")]
        for trial in trials[:3]:
            self.run_trial(callback, trial, range(1, 3))
        callback.on_trial_complete(0, trials, trials[0])
        callback.on_trial_error(0, trials, trials[1])
        callback.on_trial_complete(0, trials, trials[3])
        callback.on_experiment_end(trials)
        runs = {name: tracker.client.get_run(run_id) for name, run_id in callback.run_ids.items()}
        statuses = {name: run.info.status for name, run in runs.items()}
        assert statuses == {"stopped": "FINISHED", "failed": "FAILED", "open": "KILLED"}
        assert (
            runs["stopped"].data.tags["stopped"] == "early" and runs["failed"].data.tags["failure"] == "NaN"
        )

    def test_the_parent_shows_the_best_so_far(self, callback: Any, tracker: Tracker, parent: str) -> None:
        trials = [make_trial(name) for name in "abc"]
        for trial, dice in zip(trials, (0.6, 0.4, 0.7), strict=True):
            self.run_trial(callback, trial, range(1, 3), dice)
            callback.on_trial_complete(0, trials, trial)
        n_ended, bests = zip(*read_history(tracker, parent, "best_val_dice"), strict=True)
        assert n_ended == (1, 2, 3) and bests == pytest.approx((0.62, 0.62, 0.72))
        assert tracker.client.get_run(parent).data.metrics["best_dice_minus_zeroshot"] == pytest.approx(0.22)

    def test_nan_never_becomes_the_best(self, callback: Any, tracker: Tracker) -> None:
        trial = make_trial()
        callback.on_trial_start(0, [trial], trial)
        for step, dice in enumerate([0.6, math.nan, 0.4], start=1):
            callback.on_trial_result(0, [trial], trial, make_result(step, dice))
        run_id = callback.run_ids["a1"]
        assert read_history(tracker, run_id, "val_dice") == [(1, 0.6), (3, 0.4)]
        assert [value for _, value in read_history(tracker, run_id, "best_val_dice")] == [0.6, 0.6, 0.6]

    def test_a_resume_goes_on_in_the_same_run(self, callback: Any, tracker: Tracker) -> None:
        trial = make_trial()
        self.run_trial(callback, trial, range(1, 3))
        callback.on_experiment_end([trial])
        resumed = pickle.loads(pickle.dumps(callback))
        self.run_trial(resumed, trial, range(2, 4), dice=0.7)  # the restored trial repeats step 2
        run = tracker.client.get_run(callback.run_ids["a1"])
        assert run.info.status == "RUNNING"
        resumed.on_trial_complete(0, [trial], trial)
        assert resumed.run_ids == callback.run_ids
        assert len(list_runs(tracker, "tags.run_kind = 'trial'")) == 1
        steps, values = zip(*read_history(tracker, run.info.run_id, "val_dice"), strict=True)
        assert steps == (1, 2, 3) and values == pytest.approx((0.56, 0.57, 0.73))
        assert tracker.client.get_run(run.info.run_id).data.tags["stopped"] == "no"

    @pytest.mark.parametrize("killed", [False, True], ids=["same-process", "new-process"])
    def test_an_outage_leaves_no_gap_and_no_double(
        self, callback: Any, tracker: Tracker, parent: str, store: Path, killed: bool
    ) -> None:
        first, second = make_trial("first"), make_trial("second")
        self.run_trial(callback, first, range(1, 2))
        store.rename(store.with_name("gone"))
        callback.on_trial_result(0, [first], first, make_result(2))
        self.run_trial(callback, second, range(1, 4))
        callback.on_trial_complete(0, [first, second], second)
        assert set(callback.run_ids) == {"first"} and callback.flush() == 7
        if killed:
            callback = pickle.loads(pickle.dumps(callback))
        store.with_name("gone").rename(store)
        callback.on_trial_result(0, [first], first, make_result(3))
        assert callback.flush() == 0
        histories = [
            read_history(tracker, callback.run_ids[name], "val_dice") for name in ("first", "second")
        ]
        assert [[step for step, _ in history] for history in histories] == [[1, 2, 3], [1, 2, 3]]
        assert len(list_runs(tracker, "tags.run_kind = 'trial'")) == 2
        assert tracker.client.get_run(callback.run_ids["second"]).info.status == "FINISHED"
        assert len(read_history(tracker, parent, "trials_ended")) == 1

    def test_records_replayed_after_a_kill_change_nothing(
        self, callback: Any, tracker: Tracker, tmp_path: Path
    ) -> None:
        folder = tmp_path / "search"
        store = Path(tracker.uri.removeprefix("sqlite:///")).parent
        store.rename(store.with_name("gone"))
        self.run_trial(callback, make_trial(), range(1, 4))
        records = (folder / "mlflow_outbox.jsonl").read_bytes()
        store.with_name("gone").rename(store)
        assert callback.flush() == 0
        (folder / "mlflow_outbox.jsonl").write_bytes(records)  # killed before the file was emptied
        (folder / "mlflow_runs.json").unlink()  # and before the map was written
        reborn = pickle.loads(pickle.dumps(callback))
        assert reborn.flush() == 0 and reborn.run_ids == callback.run_ids
        assert len(read_history(tracker, reborn.run_ids["a1"], "val_dice")) == 3

    def test_a_hook_that_fails_does_not_stop_the_search(self, callback: Any, tmp_path: Path) -> None:
        shutil.rmtree(tmp_path / "search")
        self.run_trial(callback, make_trial(), range(1, 3))
        callback.on_trial_result(0, [], make_trial(), {"no": "step"})

"""The tracker against a real sqlite store, read back through MLflow's client."""

import math
import time
from pathlib import Path
from typing import Any

import pytest

from search.errors import SearchError
from search.mlflow_pages.notes import PARENT_TAG
from search.tracking.errors import TrackingError, TrackingUnavailable
from search.tracking.tracker import Tracker


class TestConnect:
    def test_default_store_is_absolute_and_in_the_working_directory(
        self, store: Path, tracker: Tracker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir("/")
        run_id = tracker.start_run("s", "search")
        tracker.log_text(run_id, "text", "folder/note.txt")
        assert tracker.uri == f"sqlite:///{store}/mlflow.db"
        artifact = store / "mlruns" / tracker.experiment_id / run_id / "artifacts" / "folder" / "note.txt"
        assert artifact.read_text() == "text"

    def test_a_second_connect_finds_the_experiment_unless_deleted(self, tracker: Tracker) -> None:
        assert Tracker.connect("lora").experiment_id == tracker.experiment_id
        tracker.client.delete_experiment(tracker.experiment_id)
        with pytest.raises(SearchError, match="has been deleted"):
            Tracker.connect("lora")

    def test_dead_server_is_an_error(self, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:secret@127.0.0.1:9")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")  # the default of 2 takes 4 s here
        with pytest.raises(SearchError, match=r"127\.0\.0\.1:9.*cannot be used") as caught:
            Tracker.connect("lora")
        assert "secret" not in str(caught.value).split("cannot be used")[0]


class TestRuns:
    def test_nesting_tags_params_and_status(self, tracker: Tracker) -> None:
        parent = tracker.start_run("search", "search", {"space": "lora.yaml"})
        params = {f"p{i}": i for i in range(230)} | {"long": "x" * 9000, "nested": {"rank": 8}}
        child = tracker.start_child(parent, "t", "trial", {"git_commit": "abc"})
        tracker.log_params(child, params)
        tracker.finish(child, "FAILED")
        run = tracker.client.get_run(child)
        assert run.data.tags[PARENT_TAG] == parent and run.data.tags["run_kind"] == "trial"
        assert run.info.status == "FAILED" and run.data.params["nested.rank"] == "8"
        assert len(run.data.params) == 232 and len(run.data.params["long"]) == 6000
        assert tracker.client.get_run(parent).data.tags["run_kind"] == "search"
        assert tracker.find_child(parent, {"git_commit": "abc"}) == child
        assert tracker.find_child(parent, {"git_commit": "other"}) is None

    def test_a_watched_machine_is_seen_in_the_run_and_goes_on_after_a_resume(
        self, tracker: Tracker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.05")
        run_id, name = tracker.start_run("s", "search"), "system/cpu_utilization_percentage"
        for points in (1, 3):
            with tracker.watch_machine(run_id):
                while len(tracker.client.get_metric_history(run_id, name)) < points:
                    time.sleep(0.05)
        steps = [point.step for point in tracker.client.get_metric_history(run_id, name)]
        assert sorted(steps) == list(range(len(steps)))

    @pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
    def test_what_is_not_finite_is_left_out_with_one_warning(
        self, tracker: Tracker, bad: float, caplog: pytest.LogCaptureFixture
    ) -> None:
        run_id = tracker.start_run("s", "search")
        for step in (1, 2):
            tracker.log_metrics(run_id, {"val_dice": bad, "train_loss/dice": 0.5, "necrosis (debris)": 1.0}, step)
        metrics = tracker.client.get_run(run_id).data.metrics
        assert metrics == {"train_loss/dice": 0.5, "necrosis _debris_": 1.0}
        assert caplog.text.count("val_dice is") == 1

    def test_the_same_record_twice_stands_once(self, tracker: Tracker) -> None:
        run_id = tracker.start_run("s", "search")
        for _ in range(2):
            tracker.log_metrics(run_id, {"a": 0.5}, 3, timestamp_ms=1_000)
        (point,) = tracker.client.get_metric_history(run_id, "a")
        assert (point.step, point.value) == (3, 0.5)

    def test_a_request_without_answer_opens_one_run(self, tracker: Tracker, monkeypatch: pytest.MonkeyPatch) -> None:
        create = tracker.client.create_run

        def lose_answer(*arguments: Any, **options: Any) -> None:
            create(*arguments, **options)
            raise TimeoutError("read timed out")

        monkeypatch.setattr(tracker.client, "create_run", lose_answer)
        run_id = tracker.start_run("s", "search", {"space": "lora"})
        (run,) = tracker.client.search_runs([tracker.experiment_id])
        assert run.info.run_id == run_id

    def test_errors_say_whether_to_try_again(self, tracker: Tracker, store: Path) -> None:
        run_id = tracker.start_run("s", "search")
        tracker.log_params(run_id, {"p": 1})
        with pytest.raises(TrackingError) as caught:
            tracker.log_params(run_id, {"p": 2})
        assert not isinstance(caught.value, TrackingUnavailable)
        store.rename(store.with_name("gone"))
        with pytest.raises(TrackingUnavailable):
            tracker.log_metrics(run_id, {"a": 1.0}, 1)

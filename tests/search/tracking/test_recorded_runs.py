"""The experiment log as MLflow runs, against a real sqlite store."""

import logging
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from search.mlflow_pages.notes import NOTE_TAG, RECORDED_VIEW_TAG
from search.space.recorded_experiments import RECORDED_BARS, RECORDED_EXPERIMENTS
from search.tracking.errors import TrackingUnavailable
from search.tracking.recorded_runs import log_recorded_experiments
from search.tracking.tracker import Tracker
from trainables.protocol.spec import PROTOCOLS

NAMES = {row.name for row in (*RECORDED_EXPERIMENTS, *RECORDED_BARS)}


def read_runs(tracker: Tracker, experiment_id: str) -> dict[str, Any]:
    runs = tracker.client.search_runs([experiment_id])
    assert len(runs) == len({run.info.run_name for run in runs})
    return {run.info.run_name: run for run in runs}


@pytest.fixture(scope="session")
def filled_store(empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database that holds the recorded experiments, which takes a second: tests work on copies."""
    path = Path(shutil.copy(empty_store, tmp_path_factory.mktemp("recorded") / "mlflow.db"))
    log_recorded_experiments(Tracker(f"sqlite:///{path}", ""))
    return path


@pytest.fixture
def filled(filled_store: Path, store: Path) -> tuple[Tracker, str]:
    """A tracker of such a store, and the id of its experiment `recorded`."""
    shutil.copy(filled_store, store / "mlflow.db")
    tracker = Tracker.connect("lora")
    return tracker, tracker.client.get_experiment_by_name("recorded").experiment_id


def test_every_row_is_a_run_with_its_protocol(filled: tuple[Tracker, str]) -> None:
    tracker, experiment_id = filled
    runs = read_runs(tracker, experiment_id)
    assert experiment_id != tracker.experiment_id and set(runs) == NAMES and len(NAMES) == 12
    for name, run in runs.items():
        expected = {"recorded_name": name, "dataset": "BCSS", "split": "test", "demo": "no", "run_kind": "recorded"}
        assert expected.items() <= run.data.tags.items()
        protocol = run.data.tags["protocol"]
        assert run.data.params["protocol"] == protocol and run.info.status == "FINISHED"
        assert run.data.tags.get("protocol_id") == (PROTOCOLS[protocol].id if protocol in PROTOCOLS else None)
        assert run.data.metrics or "No figure recorded" in run.data.tags[NOTE_TAG]


def test_figures(filled: tuple[Tracker, str]) -> None:
    tracker, experiment_id = filled
    runs = read_runs(tracker, experiment_id)
    for name, *expected in (
        ("zeroshot", "recorded", 0.517, 0.0),
        ("zeroshot-centroid", "centroid", 0.335, 0.0),
        ("zeroshot-tta", "box-neg+tta", 0.566, 0.0),
        ("lora-light", "centroid", 0.355, 0.02),
        ("box-focal", "centroid", 0.372, 0.037),
        ("v2", "unknown", 0.42, None),
        ("lora-r8", "unknown", None, None),
    ):
        tags, metrics = runs[name].data.tags, runs[name].data.metrics
        assert [tags["protocol"], metrics.get("test_dice"), metrics.get("gain_over_zeroshot")] == expected, name
        assert ("test_dice/tumor" in metrics) == (name in ("v2", "lora-light", "box-focal"))


def test_mlflow_lists_rows_by_protocol_and_says_why_they_have_no_ranking(filled: tuple[Tracker, str]) -> None:
    tracker, experiment_id = filled
    runs = tracker.client.search_runs([experiment_id], order_by=["attributes.start_time DESC"])
    protocols = [run.data.tags["protocol"] for run in runs]
    assert protocols == ["recorded", *["centroid"] * 3, "box-neg+tta", *["unknown"] * 7]
    assert [run.info.run_name for run in runs[:4]] == ["zeroshot", "zeroshot-centroid", "box-focal", "lora-light"]
    tags = tracker.client.get_experiment(experiment_id).tags
    assert all(word in tags[NOTE_TAG] for word in ("0.517", "0.335", "0.355", "0.372", "above their own bar"))
    assert "gain_over_zeroshot" in tags[RECORDED_VIEW_TAG]


def test_what_a_kill_left_is_completed(tracker: Tracker) -> None:
    recorded = tracker.open_experiment("recorded", {})
    left = recorded.start_run("v2", "recorded", {"recorded_name": "v2"})
    runs = read_runs(tracker, log_recorded_experiments(tracker))
    assert set(runs) == NAMES
    assert runs["v2"].info.run_id == left and runs["v2"].data.metrics["test_dice"] == 0.42
    assert runs["v2"].info.status == "FINISHED"


def test_a_second_call_adds_nothing_and_updates_another_protocol_id(filled: tuple[Tracker, str]) -> None:
    tracker, experiment_id = filled
    before = {run.info.run_id: run.data.to_dictionary() for run in tracker.client.search_runs([experiment_id])}
    assert log_recorded_experiments(tracker) == experiment_id
    after = {run.info.run_id: run.data.to_dictionary() for run in tracker.client.search_runs([experiment_id])}
    assert after == before
    run_id = read_runs(tracker, experiment_id)["box-focal"].info.run_id
    tracker.set_tags(run_id, {"protocol_id": "00000000", "mine": "stays"})
    log_recorded_experiments(tracker)
    tags = read_runs(tracker, experiment_id)["box-focal"].data.tags
    assert tags["protocol_id"] == PROTOCOLS["centroid"].id and tags["mine"] == "stays"


def test_searches_that_begin_at_once_leave_one_run_a_row(tracker: Tracker) -> None:
    others = [Tracker(tracker.uri, tracker.experiment_id) for _ in range(2)]
    assert all(other.client for other in others)
    with ThreadPoolExecutor(2) as pool:
        (experiment_id,) = set(pool.map(log_recorded_experiments, others))
    assert log_recorded_experiments(tracker) == experiment_id
    runs = read_runs(tracker, experiment_id)  # asserts that no name stands twice
    assert set(runs) == NAMES and {run.info.status for run in runs.values()} == {"FINISHED"}


def test_a_deleted_experiment_is_logged_and_stays_deleted(
    filled: tuple[Tracker, str], caplog: pytest.LogCaptureFixture
) -> None:
    tracker, experiment_id = filled
    tracker.client.delete_experiment(experiment_id)
    with caplog.at_level(logging.WARNING, logger="search.tracking.recorded_runs"):
        assert log_recorded_experiments(tracker) == experiment_id
    assert [record.name for record in caplog.records].count("search.tracking.recorded_runs") == 1
    assert tracker.client.get_experiment(experiment_id).lifecycle_stage == "deleted"


def test_an_outage_is_raised(tracker: Tracker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(TrackingUnavailable):
        log_recorded_experiments(Tracker("http://127.0.0.1:9", "0"))

"""A comparator stands once beside a search's trials, however often it was scored."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from search.judging.test_set import judge_pairs
from search.mlflow_pages.notes import PARENT_TAG, RUN_KIND_TAG
from search.stages.comparator import RUN_KIND, ComparatorScores, log_comparison
from search.stages.session import Session
from search.tracking.errors import TrackingError
from trainables.protocol.scores import Scores


@pytest.fixture
def comparison(tmp_path: Path, make_scores: Callable[..., Scores]) -> ComparatorScores:
    weights, file = tmp_path / "medsam.pth", tmp_path / "scores_val_medsam.csv"
    weights.write_bytes(b"weights")
    file.write_text("file,class\n")
    scores = make_scores(10)
    zeroshot = {(pair.file, pair.class_name): pair.dice for pair in make_scores(0).compared}
    verdict = judge_pairs(scores, zeroshot, ("medsam", "zeroshot"))
    return ComparatorScores("medsam", weights, "ViT-B", scores, verdict, ("trained with boxes alone",), file)


def test_it_is_nested_with_its_figures_as_lines(session: Session, comparison: ComparatorScores) -> None:
    run = session.tracker.client.get_run(log_comparison(session.record, comparison))
    assert run.info.status == "FINISHED" and run.data.tags[PARENT_TAG] == session.record.parent_run_id
    assert run.data.tags["caveats"] == "trained with boxes alone"
    assert run.data.metrics["dice_minus_zeroshot"] == pytest.approx(0.1)
    history = session.tracker.client.get_metric_history(run.info.run_id, "val_dice")
    steps = [0, session.plan.config.max_epochs]
    assert [(entry.step, entry.value) for entry in history] == [(step, comparison.scores.dice) for step in steps]
    artifacts = {item.path for item in session.tracker.client.list_artifacts(run.info.run_id)}
    assert artifacts == {"scores_val_medsam.csv", "verdict_val.txt"}


def test_the_same_weights_are_one_run_and_others_another_from_any_place(
    session: Session, comparison: ComparatorScores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    first = log_comparison(session.record, comparison)
    assert log_comparison(session.record, comparison) == first
    history = session.tracker.client.get_metric_history(first, "val_dice")
    assert len(history) == 2
    comparison.weights.write_bytes(b"other weights")
    assert log_comparison(session.record, comparison) != first
    assert log_comparison(session.record, dataclasses.replace(comparison, name="sam")) != first
    assert len(session.tracker.find_runs({RUN_KIND_TAG: RUN_KIND})) == 3
    assert not list((tmp_path / "other").iterdir())


def test_a_run_that_was_left_halfway_is_completed(session: Session, comparison: ComparatorScores) -> None:
    content = comparison.file.read_text()
    comparison.file.unlink()
    with pytest.raises(TrackingError):
        log_comparison(session.record, comparison)
    comparison.file.write_text(content)
    run_id = log_comparison(session.record, comparison)
    assert [(run.info.run_id, run.info.status) for run in session.tracker.find_runs({RUN_KIND_TAG: RUN_KIND})] == [
        (run_id, "FINISHED")
    ]

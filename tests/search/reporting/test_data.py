"""What a report reads from a search's folder."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from optuna.trial import create_trial

from search.reporting.cost import describe_cost
from search.reporting.data import read_report
from search.reporting.page import write_report
from search.run_folder.search_record import SearchRecord
from search.run_folder.summary import Summary
from search.study.study_file import make_study_file
from search.study.trial_attributes import FROM_SEARCH, FROM_SEARCH_TRIAL

EVIL = "<script>alert(1)</script> $\\alpha & 'co'"
CLASSES = ("tumor", EVIL)


def test_test_figures_are_the_summary_s(
    make: SimpleNamespace, finished: Path, make_summary: Callable[..., Summary]
) -> None:
    first = read_report(finished)
    make.pairs(finished / "scores_test_2.csv", ["winner", "zeroshot"], low=0.69)  # of another trial
    assert read_report(finished).test == first.test and read_report(finished).verdict == first.verdict
    make_summary(test_opening=2).write(finished)
    second = read_report(finished)
    assert first.test is not None and second.test is not None
    assert first.test.overall["winner"] < 0.65 < 0.69 <= second.test.overall["winner"]
    (finished / "summary.json").unlink()  # trials are being added
    assert read_report(finished).test is None and read_report(finished).verdict is None


def test_trials_are_read_with_their_curves_and_states(finished: Path) -> None:
    record = SearchRecord.read(finished)
    make_study_file(finished, record).open().enqueue_trial({"optim.lr": 1e-3})  # it never began
    data = read_report(finished)
    assert [trial.state for trial in data.trials] == ["stopped", *["complete"] * 5, *["stopped"] * 6, "failed"]
    assert (data.trials[1].best_epoch, data.trials[1].best) == (2, 0.66)
    assert (data.trials[-1].best_epoch, data.trials[-1].end) == (0, EVIL)
    assert (data.trials[0].origin, data.trials[0].end) == (f"start {EVIL}", f"rung at epoch 1 {EVIL}")
    cost = "The trials took 22 epochs; all in full would have taken 96 epochs: early stopping saved 77%."
    assert describe_cost(data.trials, 8) == cost
    assert data.best is not None and data.best.trial_id == "t1"
    assert data.bar == 0.60001  # the search's own figure, not the pairs'
    assert data.test is not None and data.test.n_pairs == 16 and set(data.test.by_class) == set(CLASSES)
    assert sum(data.importance.values()) == pytest.approx(1.0)
    assert set(data.main_parameters) == set(data.record.config["space"])
    assert [run.by_scale for run in data.finalists[0].runs] == [{0.0: 0.55, 1.0: 0.65}] * 2


def test_trials_of_earlier_searches_stand_apart(finished: Path) -> None:
    """They are rings in the slices and count for importance, and for nothing else."""
    before, record = read_report(finished), SearchRecord.read(finished)
    dataclasses.replace(record, warm_start=["monday: 1 ended trial"]).write(finished)
    study = make_study_file(finished, record).open()
    mine = study.get_trials()[1]
    attrs = {FROM_SEARCH: "monday", FROM_SEARCH_TRIAL: "abc"}
    same = {"params": mine.params, "distributions": mine.distributions}
    study.add_trial(create_trial(value=0.9, intermediate_values={1: 0.8, 2: 0.9}, user_attrs=attrs, **same))
    data = read_report(finished)
    assert (data.trials, data.best) == (before.trials, before.best)
    assert [(trial.trial_id, trial.best_epoch, trial.best) for trial in data.imported] == [("monday/abc", 2, 0.9)]
    assert data.importance != before.importance
    text = write_report(finished, finished / "page.html").read_text()
    assert "monday: 1 ended trial" in text and "Rings are trials of earlier searches" in text

"""What a run of Ray Tune is made of, for the search's own trials and for known configurations."""

from __future__ import annotations

import dataclasses
import io
from typing import Any

import pytest
from ray import tune

from search.stages.session import Session
from search.stages.tune_run import TuneRun
from search.tuning.trial_generator import ListSearcher
from trainables.sam2_trainable import SAM2Trainable


class Started(Exception):
    """Carries what Tune was given."""

    def __init__(self, trainable: Any, tune_config: tune.TuneConfig, run_config: tune.RunConfig) -> None:
        super().__init__()
        self.tune_config, self.run_config = tune_config, run_config


@pytest.fixture(autouse=True)
def catch_tuner(monkeypatch: pytest.MonkeyPatch) -> None:
    """Raises where Tune would be given a run."""

    def refuse(*arguments: Any, **options: Any) -> None:
        raise Started(*arguments, **options)

    monkeypatch.setattr(tune, "Tuner", refuse)
    monkeypatch.setattr(tune, "with_parameters", lambda trainable, **_: trainable)
    monkeypatch.setattr(tune, "with_resources", lambda trainable, _: trainable)


def start(session: Session, name: str, **context: Any) -> Started:
    run = TuneRun(session, name, 2, 3, None, lambda _: {})
    with pytest.raises(Started) as caught:
        run.fit(SAM2Trainable, dataclasses.replace(session.context, **context), ListSearcher([]), 2, [])
    return caught.value


@pytest.mark.parametrize(("name", "budget"), [("trials", 60.0), ("confirmation", None)])
def test_only_the_search_itself_has_a_time_budget(session: Session, name: str, budget: float | None) -> None:
    options = dataclasses.replace(session.plan.options, time_budget=60.0)
    session = dataclasses.replace(session, plan=dataclasses.replace(session.plan, options=options))
    assert start(session, name).tune_config.time_budget_s == budget


def test_an_epoch_is_on_disk_before_it_is_shown_and_logged_and_a_full_disk_comes_last(session: Session) -> None:
    given = start(session, "trials").run_config
    names = [type(each).__name__ for each in given.callbacks or []]
    assert names == ["EpochLog", "ProgressCallback", "TrackingCallback", "StorageGuard"]
    assert (given.name, given.stop, given.storage_path) == (
        *("trials", {"training_iteration": 3}, str(session.plan.folder)),
    )


@pytest.mark.parametrize(
    ("context", "train", "kept"),
    [
        ({}, True, (1, "val_dice", 1)),
        ({"val": (), "folds": ()}, True, (1, None, 1)),  # a refit has nothing to validate on
        ({}, False, (None, None, 0)),
    ],
)
def test_the_best_epoch_is_kept_where_there_is_a_validation(
    session: Session, context: dict[str, Any], train: bool, kept: tuple[Any, ...]
) -> None:
    config = dataclasses.replace(session.plan.config, train=train)
    session = dataclasses.replace(session, plan=dataclasses.replace(session.plan, config=config))
    found = start(session, "trials", **context).run_config.checkpoint_config
    assert found is not None
    assert (found.num_to_keep, found.checkpoint_score_attribute, found.checkpoint_frequency) == kept


@pytest.mark.parametrize("n_waiting", [0, 3])
def test_records_that_wait_for_mlflow_are_reported(
    session: Session, screen: io.StringIO, monkeypatch: pytest.MonkeyPatch, n_waiting: int
) -> None:
    run = TuneRun(session, "trials", 2, 3, None, lambda _: {})
    monkeypatch.setattr(run.tracking, "settle", lambda: n_waiting)
    run.settle()
    assert ("3 records wait" in screen.getvalue()) == bool(n_waiting)

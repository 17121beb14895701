"""Finalists gather their seeds' trainings, and what happened to each."""

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from search.errors import SearchError
from search.run_folder.finalists import Finalist, SeedRun
from search.run_folder.trial_folder import ListedTrial, read_listed
from search.space.objective import Objective
from search.stages import confirmation
from search.stages.confirmation import gather_finalist, list_seeds
from search.stages.session import Session
from search.study.ranking import RankedTrial
from search.study.trial_attributes import FROM_TRIAL
from search.tuning.epoch_log import EpochLog
from trainables.context import SEED_KEY

WINNER = RankedTrial("abc", Path("/c"), 4, 0.7, {"adapter.rank": 8})


Train = Callable[..., ListedTrial]


@pytest.fixture
def train(tmp_path: Path, write_trial: Callable[..., Path]) -> Train:
    """Writes what a training with a seed leaves: its epochs' values, and checkpoints of some epochs."""

    def write(seed: int, rows: Sequence[Any], *kept: int, failure: str = "") -> ListedTrial:
        config = {"adapter.rank": 8, SEED_KEY: seed, FROM_TRIAL: "abc"}
        return ListedTrial(config, write_trial(tmp_path, str(seed), rows, kept, config), failure)

    return write


def test_a_finalist_has_its_seeds_in_order_each_at_its_best_epoch(train: Train, tmp_path: Path) -> None:
    trials = [train(2, [0.3, 0.6, 0.5], 2), train(1, [0.8], 1)]
    other = ListedTrial({SEED_KEY: 1, FROM_TRIAL: "other"}, tmp_path, "")
    finalist = gather_finalist(WINNER, [1, 2], [*trials, other])
    assert finalist.is_complete
    assert [(run.seed, run.epoch, run.val_dice) for run in finalist.runs] == [(1, 1, 0.8), (2, 2, 0.6)]
    assert finalist.search_dice == 0.7


def test_seeds_are_taken_at_the_best_epoch_by_the_objective(train: Train) -> None:
    trial = train(1, [{"val_dice": 0.8, "val_iou": 0.1}, {"val_dice": 0.6, "val_iou": 0.5}], 1, 2)
    (run,) = gather_finalist(WINNER, [1], [trial], Objective(("val_iou",))).runs
    assert (run.epoch, run.val_dice, run.score) == (2, 0.6, 0.5)


def test_failed_and_missing_trainings_keep_their_reasons(train: Train) -> None:
    trials = [train(1, [0.3], 1, failure="DivergedError: the loss became nan"), train(2, [])]
    finalist = gather_finalist(WINNER, [1, 2, 3], trials)
    assert not finalist.is_complete
    reasons = ["DivergedError: the loss became nan", "left no checkpoint", "was not started"]
    assert [run.failure for run in finalist.runs] == reasons


@pytest.mark.parametrize(("seed", "seeds"), [(0, [1, 2, 3]), (2**32 - 2, [2**32 - 1, 0, 1])])
def test_confirmations_never_use_the_searchs_own_seed(seed: int, seeds: list[int]) -> None:
    assert list_seeds(seed, 3) == seeds
    assert seed not in seeds


@pytest.mark.parametrize("reason", ["ValueError: no such adapter", None], ids=["failed", "not started"])
def test_the_error_of_a_refit_whose_worker_never_came_up_has_the_reason(
    session: Session, monkeypatch: pytest.MonkeyPatch, reason: str | None
) -> None:
    folder, log = session.plan.folder / "refit", EpochLog(session.plan.folder / "refit")

    def fail(session: Session, zeroshot: object, configs: list[dict[str, Any]], *_: object) -> list[ListedTrial]:
        if reason is not None:
            trial = SimpleNamespace(
                trial_id="r", config=configs[0], get_error=lambda: f"Traceback\n{reason}", should_recover=lambda: False
            )
            log.on_trial_error(0, [trial], trial)
        return read_listed(folder)

    monkeypatch.setattr(confirmation, "run_listed", fail)
    best = Finalist("abc", 0.7, {"adapter.rank": 8}, (SeedRun(1, "/c", 4, 0.7),))
    chosen = SimpleNamespace(params={"adapter.rank": 8}, seed=1, trial_id="abc")
    with pytest.raises(SearchError) as caught:
        confirmation._refit(session, chosen, best, None)  # type: ignore[arg-type]
    assert str(caught.value) == f"the refit on all regions failed: {reason or 'it was not started'}"

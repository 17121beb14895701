"""The race of the finalists by what lies in the folder of their trainings."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from search.cluster.checkpoint_storage import CheckpointStorage
from search.run_folder.finalists import Finalist
from search.run_folder.trial_folder import FAILURE_FILE, ListedTrial
from search.space.objective import DICE, Objective
from search.study.trial_attributes import FROM_TRIAL
from search.tuning.seed_race import SeedRace, read_run
from trainables.context import SEED_KEY

Train = Callable[..., Path]


@pytest.fixture
def train(tmp_path: Path, write_trial: Train) -> Train:
    """Writes what a training such as ``a1`` leaves: its epochs' values, and checkpoints of some epochs."""

    def write(name: str, rows: Sequence[Any], *kept: int, failure: str = "") -> Path:
        config = {"rank": 8, SEED_KEY: int(name[1:]), FROM_TRIAL: name[0]}
        folder = write_trial(tmp_path / "confirmation", name, rows, kept, config)
        if failure:
            (folder / FAILURE_FILE).write_text(f"{failure}\n")
        return folder

    return write


@pytest.fixture
def make_race(tmp_path: Path) -> Callable[..., SeedRace]:
    """Makes a race of the trials ``a`` and ``b`` with seeds 1 and 2."""

    def make(metric: str = DICE, slots: int = 1) -> SeedRace:
        finalists = [Finalist(name, 0.7, {"rank": 8}, ()) for name in "ab"]
        storage = CheckpointStorage(tmp_path)
        return SeedRace(finalists, (1, 2), Objective((metric,)), slots, tmp_path / "confirmation", storage)

    return make


def spell(configs: Sequence[dict[str, Any]]) -> str:
    return " ".join(f"{config[FROM_TRIAL]}{config[SEED_KEY]}" for config in configs)


def test_a_finalist_has_its_seeds_in_order_each_at_its_best_epoch(
    train: Train, make_race: Callable[..., SeedRace]
) -> None:
    race = make_race()
    assert spell(race.configs) == "a1 b1 a2 b2" and race.configs[0]["rank"] == 8
    train("a2", [0.3, 0.6, 0.5], 2)
    train("a1", [0.8], 1)
    train("x1", [0.9], 1)  # of an earlier choice of finalists
    train("a3", [0.9], 1)  # of an earlier choice of seeds
    first, second = race.read().finalists
    assert [(run.seed, run.epoch, run.val_dice) for run in first.runs] == [(1, 1, 0.8), (2, 2, 0.6)]
    assert not second.runs
    assert spell(race.list_wanted(["a1", "a2"])) == "a1 b1 a2"
    assert spell(make_race(slots=4).list_wanted(["a1"])) == "a1 b1 a2 b2"


def test_what_runs_counts_once_it_has_ended(train: Train, make_race: Callable[..., SeedRace]) -> None:
    race = make_race()
    assert race.count_trainings(race.read([])) == 4
    train("a1", [0.8], 1)
    train("b1", [0.75], 1)
    assert not race.read([]).finalists[0].runs and race.read(["a1", "b1"]).n_compared == 1
    standing = race.read(["a1", "b1"])
    assert [bool(each.out) for each in standing.finalists] == [False, False]  # with 0.7 in the search
    assert race.count_trainings(standing) == 4
    train("b2", [], failure="it broke")
    standing = race.read(["a1", "b1", "b2"])
    assert race.count_trainings(standing) == 4
    train("a2", [0.8], 1)
    assert race.read().racing == (0,)


def test_another_objective_chooses_the_epoch(train: Train, make_race: Callable[..., SeedRace]) -> None:
    train("a1", [{"val_dice": 0.8, "val_iou": 0.1}, {"val_dice": 0.6, "val_iou": 0.5}], 1, 2)
    (run,) = make_race("val_iou").read().finalists[0].runs
    assert (run.epoch, run.val_dice, run.score) == (2, 0.6, 0.5)


def test_failed_and_missing_trainings_keep_their_reasons(train: Train, make_race: Callable[..., SeedRace]) -> None:
    train("a1", [0.3], 1, failure="DivergedError: the loss became nan")
    train("b1", [0.6], 1)
    failed, unstarted = make_race().read_end()
    assert [run.failure for run in failed.runs] == ["DivergedError: the loss became nan"]
    assert [run.failure for run in unstarted.runs] == ["", "was not started"]
    assert not failed.is_complete and not unstarted.is_complete
    empty = ListedTrial({}, train("b2", []), "")
    assert read_run(2, empty, Objective()).failure == "left no checkpoint"

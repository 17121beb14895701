"""Finalists gather their seeds' trainings, and what happened to each."""

import dataclasses
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from search.cluster.resources import TrialResources
from search.errors import SearchError
from search.run_folder.chosen import Chosen
from search.run_folder.finalists import Finalist, SeedRun
from search.run_folder.trial_folder import ListedTrial, read_listed
from search.space.objective import Objective
from search.stages import confirmation
from search.stages.confirmation import gather_finalist, list_seeds
from search.stages.session import Session
from search.study.ranking import RankedTrial
from search.study.trial_attributes import FROM_TRIAL
from search.tuning.epoch_log import EpochLog
from trainables.adapters.interpolation import SCALES
from trainables.context import SEED_KEY
from trainables.evaluation.soup_folder import list_members
from trainables.protocol.scores import Scores

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


SCORES = {"a": [0.65, 0.64, 0.66], "b": [0.64, 0.66, 0.62], "c": [0.5, 0.51, 0.52], "f": [0.9, None, 0.9]}
RANKED = [RankedTrial(name, Path("/c"), 4, (dice[0] or 0) + 0.01, {"rank": name}) for name, dice in SCORES.items()]


@pytest.fixture
def trained(session: Session, write_trial: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The trainings of configurations with seeds, such as ``a1``, in their order; none is trained twice."""
    folder, done = session.plan.folder / "confirmation", list[str]()

    def run(session: Session, zeroshot: object, configs: list[dict[str, Any]], kind: str) -> list[ListedTrial]:
        for config in configs:
            name, number = config[FROM_TRIAL], config[SEED_KEY] - session.plan.options.seed
            if f"{name}{number}" not in done:
                done.append(f"{name}{number}")
                dice = SCORES[name][number - 1]
                write_trial(folder, f"{name}{number}", [dice] if dice else [], (1,) if dice else (), config)
        return read_listed(folder)

    monkeypatch.setattr(confirmation, "run_listed", run)
    return done


def race(session: Session, names: str, concurrent: int = 1) -> dict[str, Finalist]:
    session = dataclasses.replace(session, resources=TrialResources(1, 0.0, concurrent))
    seeds = list_seeds(session.plan.options.seed, 3)
    ranked = [each for each in RANKED if each.trial_id in names]
    return confirmation._race(session, ranked, seeds, None)  # type: ignore[arg-type]


def test_seeds_are_added_where_they_can_still_change_the_choice(
    session: Session, trained: list[str], screen: io.StringIO
) -> None:
    found = race(session, "abc")
    assert trained == ["a1", "b1", "c1", "a2", "b2", "a3", "b3"]
    assert [name for name, finalist in found.items() if finalist.out] == ["c"]
    assert [len(found[name].runs) for name in "abc"] == [3, 3, 1]
    assert "trial c is out after 1 of 3 seeds: mean val Dice 0.500 against 0.650 of trial a" in screen.getvalue()
    before = list(trained)
    assert race(session, "abc") == found and trained == before  # as after a stop: the same decisions, nothing again


@pytest.mark.parametrize(
    ("names", "concurrent", "order"),
    [
        ("ac", 1, ["a1", "c1", "a2", "a3"]),
        ("abc", 6, ["a1", "a2", "b1", "b2", "c1", "c2", "a3", "b3"]),
        ("abc", 9, ["a1", "a2", "a3", "b1", "b2", "b3", "c1", "c2", "c3"]),
        ("a", 1, ["a1", "a2", "a3"]),
        ("cf", 1, ["c1", "f1", "f2", "f3", "c2", "c3"]),
    ],
    ids=["the last one gets the rest", "six slots", "nine slots", "one finalist", "all that are left fail"],
)
def test_a_round_fills_the_machine(
    session: Session, trained: list[str], names: str, concurrent: int, order: list[str]
) -> None:
    found = race(session, names, concurrent)
    assert trained == order
    assert any(finalist.can_win for finalist in found.values())


def test_contenders_are_the_best_training_and_the_soups(
    session: Session, monkeypatch: pytest.MonkeyPatch, screen: io.StringIO, make_scores: Callable[..., Scores]
) -> None:
    by_scale = {scale: 0.5 + scale / 10 for scale in SCALES}
    folder = session.plan.folder

    def make_run(name: str, seed: int, dice: float) -> SeedRun:
        return SeedRun(seed, str(folder / name / str(seed)), 3, dice, by_scale=by_scale)

    best = Finalist("a", 0.7, {"adapter.kind": "lora"}, (make_run("a", 1, 0.6), make_run("a", 2, 0.62)))
    other = Finalist("b", 0.7, {}, (make_run("b", 1, 0.64),), out="out after 1 of 2 seeds")
    single = Chosen.from_finalist(best, 1.0, 2, "ab12cd34", folder)
    asked: list[Any] = []

    def work(resources: object, what: str, function: Callable[..., Any], calls: Any) -> list[Any]:
        asked.extend(calls)
        return [{scale: make_scores(round(10 * scale)) for scale in each[3]} for each in calls]

    def grow(resources: object, what: str, function: Callable[..., Any], *arguments: Any) -> list[int]:
        assert [path.relative_to(folder).as_posix() for path in arguments[1]] == ["a/1", "b/1", "a/2"]
        assert arguments[4] == pytest.approx(0.6)
        return [0, 1]

    monkeypatch.setattr(confirmation, "map_with_resources", work)
    monkeypatch.setattr(confirmation, "call_with_resources", grow)
    alone, seeds, greedy = confirmation.list_contenders(session, single, [best, other])
    assert (alone.kind, alone.checkpoint, alone.scale, alone.val_dice) == ("single", "a/1", 1.0, pytest.approx(0.6))
    assert seeds.members == ("trial a, seed 1, epoch 3", "trial a, seed 2, epoch 3")
    assert greedy.members == ("trial a, seed 1, epoch 3", "trial b, seed 1, epoch 3")
    assert [each[1] for each in asked] == [folder / each.checkpoint for each in (seeds, greedy)]
    assert list_members(folder / greedy.checkpoint) == [folder / "a/1", folder / "b/1"]
    assert seeds.by_scale[0.0] == 0.5 and tuple(seeds.by_scale) == SCALES
    chosen = single.replace_by(greedy)
    assert (chosen.locate(folder), chosen.scale, chosen.seed) == (folder / "soups" / "greedy", greedy.scale, 1)
    assert chosen.describe().startswith("greedy soup of 2 trainings (trial a, seed 1, epoch 3; trial b")
    assert single.replace_by(alone) == single
    assert "scoring soups of the 3 trainings" in screen.getvalue()


def test_where_there_can_be_no_soup_the_reason_is_said(session: Session, screen: io.StringIO) -> None:
    runs = tuple(SeedRun(seed, str(session.plan.folder / str(seed)), 3, 0.6, by_scale={1.0: 0.6}) for seed in (1, 2))
    best = Finalist("a", 0.7, {"adapter.kind": "bottleneck"}, runs)
    single = Chosen.from_finalist(best, 1.0, 1, "ab12cd34", session.plan.folder)
    (alone,) = confirmation.list_contenders(session, single, [best])
    assert alone.kind == "single" and "no soup of the trainings: what was trained cannot be" in screen.getvalue()

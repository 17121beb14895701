"""Trials are ranked at their best epochs whose checkpoints are left."""

import json
import random
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from search.errors import ConfigError, SearchError
from search.run_folder.layout import PARETO_FILE
from search.run_folder.trial_folder import list_checkpoint_folders
from search.space.objective import Objective
from search.study.ranking import (
    RankedTrial,
    describe_pareto,
    find_pareto,
    pick_finalists,
    pick_winner,
    rank_trials,
    write_pareto,
)
from search.study.trial_attributes import BEST_VALUE, RAY_TRIAL_ID, REASON, STARTING_POINT
from trainables.context import RECIPE_FILE


class Search:
    """A search whose trials have ended."""

    def __init__(self, folder: Path, write_trial: Callable[..., Path]) -> None:
        self.folder, self._write_trial = folder, write_trial
        self.trials: list[optuna.trial.FrozenTrial] = []

    def add_trial(
        self,
        trial_id: str,
        rows: Sequence[Any],
        kept: Iterable[int],
        state: TrialState = TrialState.COMPLETE,
        attrs: Mapping[str, object] | None = None,
    ) -> Path:
        """Adds a trial with its epochs and those that a checkpoint is kept of; returns its folder."""
        value = 0.5 if state == TrialState.COMPLETE else None
        given = {RAY_TRIAL_ID: trial_id, **(attrs or {})}
        self.trials.append(optuna.trial.create_trial(state=state, value=value, user_attrs=given))
        return self._write_trial(self.folder, trial_id, rows, kept, {"adapter.rank": 8, "of": trial_id})

    def rank(self, *objective: Objective) -> list[RankedTrial]:
        return rank_trials(self.trials, self.folder, *objective)

    def find_winner(self) -> RankedTrial:
        return pick_winner(self.rank(), self.trials, self.folder)


@pytest.fixture
def search(tmp_path: Path, write_trial: Callable[..., Path]) -> Search:
    return Search(tmp_path / "trials", write_trial)


def report_again(folder: Path, text: str) -> None:
    with (folder / "result.json").open("a") as file:
        file.write(text)


def test_the_best_epoch_need_not_be_the_last_and_the_earliest_of_equal_ones_wins(search: Search) -> None:
    search.add_trial("a", [0.4, 0.7, 0.7, 0.5], kept=[2, 3, 4])
    search.add_trial("b", [0.6], kept=[1], state=TrialState.PRUNED)
    winner = search.find_winner()
    assert (winner.trial_id, winner.epoch, winner.val_dice) == ("a", 2, 0.7)
    assert winner.checkpoint == search.folder / "trial-a" / "checkpoint_000001"
    assert winner.params == {"adapter.rank": 8, "of": "a"}


def test_trials_are_ranked_by_what_is_kept(search: Search) -> None:
    search.add_trial("lost-its-best", [0.9, 0.3, 0.5], kept=[2, 3])
    search.add_trial("stopped", [0.6], kept=[1], state=TrialState.PRUNED)
    search.add_trial("nothing-kept", [0.8], kept=[])
    found = [(each.trial_id, each.epoch, each.val_dice) for each in search.rank()]
    assert found == [("stopped", 1, 0.6), ("lost-its-best", 3, 0.5)]


@pytest.mark.parametrize(
    ("number", "finalists"),
    [(1, ["a"]), (2, ["a", "weak"]), (3, ["a", "b", "weak"]), (5, ["a", "b", "weak", "c", "weaker"])],
)
def test_of_several_finalists_one_is_a_starting_point(search: Search, number: int, finalists: list[str]) -> None:
    dice = {"weaker": 0.2, "a": 0.9, "c": 0.3, "weak": 0.4, "b": 0.8}
    for name, each in dice.items():
        attrs = {STARTING_POINT: f"point {name}"} if name.startswith("weak") else {}
        search.add_trial(name, [each], kept=[1], attrs=attrs)
    found = pick_finalists(search.rank(), number)
    assert [each.trial_id for each in found] == finalists
    names = {each.trial_id: each.to_finalist().name for each in search.rank()}
    assert (names["a"], names["weak"]) == ("trial a", "trial weak (point weak)")
    without = [each for each in search.rank() if not each.starting_point]
    assert pick_finalists(without, number) == without[:number]


def test_another_objective_chooses_other_epochs_and_trials(search: Search) -> None:
    for name, values in {"a": [(0.7, 0.1), (0.6, 0.3)], "b": [(0.5, 0.4)]}.items():
        rows = [{"val_dice": dice, "val_dice_min_class": low, "trained_parameters": 80} for dice, low in values]
        search.add_trial(name, rows, kept=range(1, len(rows) + 1))
    ranked = search.rank(Objective(("val_dice_min_class",)))
    found = [(each.trial_id, each.epoch, each.val_dice, each.score, each.trained_parameters) for each in ranked]
    assert found == [("b", 1, 0.5, 0.4, 80.0), ("a", 2, 0.6, 0.3, 80.0)]
    assert [(each.trial_id, each.epoch, each.score) for each in search.rank()] == [("a", 1, 0.7), ("b", 1, 0.5)]


def test_a_trial_counts_at_the_scale_of_its_best_epoch(search: Search) -> None:
    rows = [{"val_dice": dice, "update_scale": scale} for dice, scale in ((0.5, 1.0), (0.7, 0.5), (0.6, 1.0))]
    search.add_trial("a", rows, kept=[2, 3])
    search.add_trial("old", [0.6], kept=[1])
    best, old = search.rank()
    assert (best.epoch, best.scale, old.scale) == (2, 0.5, 1.0)
    assert (best.to_run(3).by_scale, old.to_run(3).by_scale) == ({0.5: 0.7}, {1.0: 0.6})


def test_a_trial_that_broke_later_or_is_held_for_running_keeps_its_good_epochs(search: Search) -> None:
    search.add_trial("nan", [0.8, float("nan")], kept=[1, 2], state=TrialState.FAIL, attrs={BEST_VALUE: 0.8})
    search.add_trial("sound", [0.5], kept=[1])
    assert (search.find_winner().trial_id, search.find_winner().epoch) == ("nan", 1)
    search.add_trial("cut-off", [0.9], kept=[1], state=TrialState.RUNNING)
    assert search.find_winner().trial_id == "cut-off"


@pytest.mark.parametrize(
    "tail", ['{"training_iteration": 3, "val_d', '{"training_iteration": 3}\n', "\x00\x00\n", "[]\n", "\n", "7\n"]
)
def test_a_torn_line_is_left_out(search: Search, tail: str) -> None:
    report_again(search.add_trial("a", [0.4, 0.7], kept=[2]), tail)
    assert search.find_winner().val_dice == 0.7


def test_an_epoch_that_was_run_again_counts_as_it_lies_in_the_checkpoint_if_whole(search: Search) -> None:
    folder = search.add_trial("a", [0.4, 0.7], kept=[1, 2])
    report_again(folder, json.dumps({"training_iteration": 2, "val_dice": 0.65}) + "\n")
    assert search.find_winner().val_dice == 0.65
    (folder / "checkpoint_000001" / RECIPE_FILE).unlink()
    assert search.find_winner().epoch == 1


@pytest.mark.parametrize("name", ["checkpoint_000001.bak", "checkpoint_000001 (copy)", "checkpoint_", "checkpoint_1_2"])
def test_a_copy_beside_the_checkpoints_is_none(search: Search, name: str) -> None:
    folder = search.add_trial("a", [0.4, 0.7], kept=[1, 2])
    shutil.copytree(folder / "checkpoint_000000", folder / name)
    assert search.find_winner().checkpoint.name == "checkpoint_000001"
    assert [path.name for _, path in list_checkpoint_folders(folder)] == ["checkpoint_000000", "checkpoint_000001"]


@pytest.mark.parametrize("content", ["", "[]", "null", "5", "[" * 100_000])
def test_a_damaged_recipe_is_a_finding(search: Search, content: str) -> None:
    path = search.add_trial("a", [0.4], kept=[1]) / "checkpoint_000000" / RECIPE_FILE
    path.write_text(content)
    with pytest.raises(ConfigError) as caught:
        search.rank()
    assert caught.value.findings[0].where == str(path)


def test_without_a_checkpoint_the_error_has_the_reasons(search: Search) -> None:
    with pytest.raises(SearchError, match="no trial was started"):
        search.find_winner()
    for number in range(2):
        raised = {REASON: "the trial raised an error"}
        search.add_trial(f"f{number}", [], kept=[], state=TrialState.FAIL, attrs=raised)
    search.add_trial("p", [0.4], kept=[], state=TrialState.PRUNED)
    with pytest.raises(SearchError, match=r"no trial left a checkpoint .*2 x the trial raised an error; 1 x stopped"):
        search.find_winner()


def make_ranked(trial_id: str, dice: float, parameters: int) -> RankedTrial:
    return RankedTrial(trial_id, Path("/c"), 3, dice, {}, trained_parameters=float(parameters))


def test_the_pareto_set_by_hand() -> None:
    trials = [
        make_ranked("best", 0.7, 900),
        make_ranked("as good, larger", 0.7, 1000),
        make_ranked("smaller", 0.6, 100),
        make_ranked("smaller twin", 0.6, 100),
        make_ranked("worse than a smaller one", 0.5, 101),
        make_ranked("as small, worse", 0.5, 100),
        make_ranked("smallest", 0.4, 50),
    ]
    names = [each.trial_id for each in find_pareto(trials)]
    assert names == ["best", "smaller", "smaller twin", "smallest"]
    assert find_pareto([]) == []


@pytest.mark.parametrize("seed", range(4))
def test_the_pareto_set_is_what_its_definition_says(seed: int) -> None:
    draw = random.Random(seed)
    trials = [make_ranked(str(n), draw.randrange(8) / 10, draw.randrange(8)) for n in range(30)]

    def is_beaten(one: RankedTrial) -> bool:
        mine = (-one.val_dice, one.trained_parameters)
        theirs = [(-each.val_dice, each.trained_parameters) for each in trials]
        return any(other != mine and other[0] <= mine[0] and other[1] <= mine[1] for other in theirs)

    members = find_pareto(trials)
    assert {each.trial_id for each in members} == {each.trial_id for each in trials if not is_beaten(each)}
    assert [each.val_dice for each in members] == sorted((each.val_dice for each in members), reverse=True)


def test_the_set_is_written_and_printed(tmp_path: Path) -> None:
    members = [make_ranked("a", 0.7, 95_520), make_ranked("b", 0.6, 1000)]
    write_pareto(tmp_path, members, "ab12cd34")
    content = json.loads((tmp_path / PARETO_FILE).read_text())
    assert content["protocol_id"] == "ab12cd34"
    assert content["members"][0] == {"trial_id": "a", "val_dice": 0.7, "trained_parameters": 95_520, "epoch": 3}
    assert [path.name for path in tmp_path.iterdir()] == [PARETO_FILE]
    text = "\n".join(describe_pareto(members, 0.65))
    assert "0.700 (+0.050), 95,520 trained parameters" in text
    assert "highest mean Dice over seeds is chosen" in text

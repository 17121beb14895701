"""The winner is the best epoch of which a checkpoint is left, and it is compared under one protocol only."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from search.errors import ConfigError, SearchError
from search.judging.test_set import judge_on_test
from search.run_folder.score_table import write_scores
from search.run_folder.trial_folder import list_checkpoints
from search.space.objective import Objective
from search.study.ranking import find_winner, rank_trials
from search.study.study_file import StudyFile
from search.study.trial_attributes import (
    BEST_VALUE,
    RAY_TRIAL_ID,
    REASON,
    STARTING_POINT,
    count_states,
    find_starting_point,
    read_trials,
)
from trainables.context import RECIPE_FILE
from trainables.protocol.overlap import Overlap
from trainables.protocol.scores import PairScore, Scores
from trainables.protocol.spec import PROTOCOLS, Protocol, ProtocolMismatch


class Search:
    """A search as it lies on disk when its trials have ended."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "trials"
        self.study_file = StudyFile(folder / "study.journal", "a-search")
        self._study = self.study_file.open()

    def add_trial(
        self,
        trial_id: str,
        curve: Sequence[float],
        kept: Sequence[int],
        state: TrialState = TrialState.COMPLETE,
        attrs: Mapping[str, object] | None = None,
    ) -> Path:
        """Adds a trial with its curve by epoch and the epochs of which a checkpoint is kept; returns its folder."""
        trial = self._study.ask()
        given = {RAY_TRIAL_ID: trial_id, **({BEST_VALUE: max(curve)} if curve else {}), **(attrs or {})}
        for key, value in given.items():
            trial.set_user_attr(key, value)
        if state != TrialState.RUNNING:
            self._study.tell(trial, max(curve) if state == TrialState.COMPLETE else None, state=state)
        folder = self.folder / f"trial-{trial_id}"
        folder.mkdir(parents=True)
        rows = [
            {"training_iteration": epoch, "val_dice": dice, "lr": 1e-3} for epoch, dice in enumerate(curve, start=1)
        ]
        (folder / "result.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
        for epoch in kept:
            checkpoint = folder / f"checkpoint_{epoch - 1:06d}"
            checkpoint.mkdir()
            (checkpoint / RECIPE_FILE).write_text(json.dumps({"adapter.rank": 8, "of": trial_id}))
        return folder

    @property
    def trials(self) -> list[optuna.trial.FrozenTrial]:
        return read_trials(self.study_file)


@pytest.fixture
def search(tmp_path: Path) -> Search:
    return Search(tmp_path)


def test_the_best_epoch_need_not_be_the_last(search: Search) -> None:
    search.add_trial("a", [0.4, 0.7, 0.5], kept=[2, 3])
    search.add_trial("b", [0.6], kept=[1], state=TrialState.PRUNED)
    winner = find_winner(search.trials, search.folder)
    assert (winner.trial_id, winner.epoch, winner.val_dice) == ("a", 2, 0.7)
    assert winner.checkpoint == search.folder / "trial-a" / "checkpoint_000001"
    assert winner.params == {"adapter.rank": 8, "of": "a"}


def test_trials_are_ranked_by_what_is_kept(search: Search) -> None:
    search.add_trial("lost-its-best", [0.9, 0.3, 0.5], kept=[2, 3])
    search.add_trial("stopped", [0.6], kept=[1], state=TrialState.PRUNED)
    search.add_trial("nothing-kept", [0.8], kept=[])
    ranked = rank_trials(search.trials, search.folder)
    assert [(each.trial_id, each.epoch, each.val_dice) for each in ranked] == [
        ("stopped", 1, 0.6),
        ("lost-its-best", 3, 0.5),
    ]


def test_the_earliest_of_equal_epochs_wins(search: Search) -> None:
    search.add_trial("a", [0.2, 0.7, 0.7], kept=[2, 3])
    assert find_winner(search.trials, search.folder).epoch == 2


def test_another_objective_chooses_other_epochs_and_trials(search: Search) -> None:
    for name, rows in {"a": [(0.7, 0.1), (0.6, 0.3)], "b": [(0.5, 0.4)]}.items():
        folder = search.add_trial(name, [dice for dice, _ in rows], kept=range(1, len(rows) + 1))
        lines = [
            {"training_iteration": epoch, "val_dice": dice, "val_dice_min_class": low, "trained_parameters": 80}
            for epoch, (dice, low) in enumerate(rows, start=1)
        ]
        (folder / "result.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    ranked = rank_trials(search.trials, search.folder, Objective(("val_dice_min_class",)))
    found = [(each.trial_id, each.epoch, each.val_dice, each.score, each.trained_parameters) for each in ranked]
    assert found == [("b", 1, 0.5, 0.4, 80.0), ("a", 2, 0.6, 0.3, 80.0)]
    by_dice = rank_trials(search.trials, search.folder)
    assert [(each.trial_id, each.epoch, each.score) for each in by_dice] == [("a", 1, 0.7), ("b", 1, 0.5)]


def test_a_trial_that_broke_later_keeps_its_good_epochs(search: Search) -> None:
    search.add_trial("nan", [0.8, float("nan")], kept=[1, 2], state=TrialState.FAIL, attrs={BEST_VALUE: 0.8})
    search.add_trial("sound", [0.5], kept=[1])
    winner = find_winner(search.trials, search.folder)
    assert (winner.trial_id, winner.epoch) == ("nan", 1)


def test_a_trial_that_the_study_holds_for_running_counts(search: Search) -> None:
    search.add_trial("cut-off", [0.8], kept=[1], state=TrialState.RUNNING)
    assert find_winner(search.trials, search.folder).trial_id == "cut-off"


@pytest.mark.parametrize(
    "tail", ['{"training_iteration": 3, "val_d', '{"training_iteration": 3}\n', "\x00\x00\n", "[]\n", "\n", "7\n"]
)
def test_a_torn_line_is_left_out(search: Search, tail: str) -> None:
    folder = search.add_trial("a", [0.4, 0.7], kept=[2])
    with (folder / "result.json").open("a") as file:
        file.write(tail)
    assert find_winner(search.trials, search.folder).val_dice == 0.7


def test_an_epoch_that_was_run_again_counts_as_it_lies_in_the_checkpoint(search: Search) -> None:
    folder = search.add_trial("a", [0.4, 0.7], kept=[2])
    with (folder / "result.json").open("a") as file:
        file.write(json.dumps({"training_iteration": 2, "val_dice": 0.65}) + "\n")
    assert find_winner(search.trials, search.folder).val_dice == 0.65


def test_a_checkpoint_that_was_not_written_whole_does_not_count(search: Search) -> None:
    folder = search.add_trial("a", [0.4, 0.7], kept=[1, 2])
    (folder / "checkpoint_000001" / RECIPE_FILE).unlink()
    assert find_winner(search.trials, search.folder).epoch == 1


@pytest.mark.parametrize("name", ["checkpoint_000001.bak", "checkpoint_000001 (copy)", "checkpoint_", "checkpoint_1_2"])
def test_a_copy_beside_the_checkpoints_is_none(search: Search, name: str) -> None:
    folder = search.add_trial("a", [0.4, 0.7], kept=[1, 2])
    shutil.copytree(folder / "checkpoint_000000", folder / name)
    assert find_winner(search.trials, search.folder).checkpoint.name == "checkpoint_000001"
    assert [path.name for _, path in list_checkpoints(folder)] == ["checkpoint_000000", "checkpoint_000001"]


@pytest.mark.parametrize("content", ["", "[]", "null", "5", "[" * 100_000])
def test_a_damaged_recipe_is_told_by_its_file(search: Search, content: str) -> None:
    path = search.add_trial("a", [0.4], kept=[1]) / "checkpoint_000000" / RECIPE_FILE
    path.write_text(content)
    with pytest.raises(ConfigError) as caught:
        rank_trials(search.trials, search.folder)
    assert caught.value.findings[0].where == str(path)


def test_without_a_checkpoint_the_reasons_are_told(search: Search) -> None:
    for number in range(2):
        raised = {REASON: "the trial raised an error"}
        search.add_trial(f"f{number}", [], kept=[], state=TrialState.FAIL, attrs=raised)
    search.add_trial("p", [0.4], kept=[], state=TrialState.PRUNED)
    with pytest.raises(SearchError, match=r"no trial left a checkpoint .*2 x the trial raised an error; 1 x stopped"):
        find_winner(search.trials, search.folder)


def test_without_trials_that_is_told(search: Search) -> None:
    with pytest.raises(SearchError, match="no trial was started"):
        find_winner(search.trials, search.folder)


def test_states_are_counted_in_the_users_words(search: Search) -> None:
    search.add_trial("a", [0.4], kept=[])
    search.add_trial("b", [0.4], kept=[], state=TrialState.PRUNED)
    search.add_trial("c", [0.4], kept=[], state=TrialState.PRUNED)
    search.add_trial("d", [], kept=[], state=TrialState.FAIL)
    search.add_trial("e", [], kept=[], state=TrialState.RUNNING)
    assert count_states(search.trials) == {"complete": 1, "stopped": 2, "failed": 1, "unfinished": 1}


def test_a_starting_point_is_found_by_its_trial(search: Search) -> None:
    search.add_trial("named", [0.4], kept=[], attrs={STARTING_POINT: "plain-lora"})
    search.add_trial("sampled", [0.4], kept=[])
    assert find_starting_point(search.study_file, "named") == {"starting_point": "plain-lora"}
    assert find_starting_point(search.study_file, "sampled") == {}
    assert find_starting_point(search.study_file, "unknown") == {}


def make_scores(*gains: int, protocol: Protocol = PROTOCOLS["recorded"]) -> Scores:
    """Scores of 12 regions of a patient each; the gains, in hundredths of Dice, go round."""
    pairs = [
        PairScore(
            f"r{i}.png", name, f"p{i}", Overlap(30 + i + gains[i % len(gains)], 100, 100), ceiling=0.9, floor=0.2
        )
        for i in range(12)
        for name in ("tumor", "stroma, fine")
    ]
    return Scores(protocol, tuple(pairs))


@pytest.mark.parametrize(
    ("gains", "word"),
    [((20,), "beaten"), ((-20,), "not beaten"), ((0,), "not beaten"), ((30, -26), "undecided")],
)
def test_the_verdict_follows_the_pairs(gains: tuple[int, ...], word: str) -> None:
    verdict = judge_on_test(make_scores(*gains), make_scores(0), seed=0)
    assert verdict.word == word
    assert verdict.overall.mean_difference == pytest.approx(sum(gains) / len(gains) / 100)
    assert (verdict.overall.n_pairs, verdict.overall.n_patients) == (24, 12)
    assert set(verdict.per_class) == {"tumor", "stroma, fine"}


def test_scores_of_two_protocols_are_never_compared() -> None:
    with pytest.raises(ProtocolMismatch, match="cannot be compared"):
        judge_on_test(make_scores(20), make_scores(0, protocol=PROTOCOLS["box"]), seed=0)


def test_a_protocol_of_another_name_is_the_same_protocol() -> None:
    renamed = dataclasses.replace(PROTOCOLS["recorded"], name="mine")
    assert judge_on_test(make_scores(20, protocol=renamed), make_scores(0), seed=0).word == "beaten"


def test_without_prompts_only_classes_that_are_shown_are_compared(tmp_path: Path) -> None:
    def name_alike(dice: int) -> Scores:
        shown = make_scores(dice, protocol=PROTOCOLS["auto"])
        absent = PairScore("r0.png", "vessel", "p0", Overlap(0, dice, 0), ceiling=1.0, floor=0.0)
        return Scores(shown.protocol, (*shown.pairs, absent))

    verdict = judge_on_test(name_alike(20), name_alike(0), seed=0)
    assert verdict.overall.n_pairs == 24 and "vessel" not in verdict.per_class
    assert any("untrained class prompts" in note for note in verdict.notes)
    assert not any("untrained" in note for note in judge_on_test(make_scores(20), make_scores(0), seed=0).notes)
    write_scores(tmp_path / "scores.csv", {"winner": name_alike(20), "zeroshot": name_alike(0)})
    assert "vessel" not in (tmp_path / "scores.csv").read_text()

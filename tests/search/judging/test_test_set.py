"""An opening of the test set is recorded before it is scored, flagged from the second on, and judged pair by pair."""

import csv
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from search.judging.openings import read_openings
from search.judging.test_set import HeldOutResult, score_on_test
from search.judging.verdict import Verdict
from search.run_folder.search_record import SearchRecord
from trainables.context import TrialContext
from trainables.evaluation.candidates import Candidate
from trainables.protocol.overlap import Overlap
from trainables.protocol.scores import PairScore, Scores
from trainables.protocol.spec import PROTOCOLS, ProtocolMismatch

MakeScores = Callable[..., Scores]
Judge = Callable[[Scores, Scores], Verdict]
NAMES = [f"r{number}.png" for number in range(12)]


@pytest.fixture
def record(make_record: Callable[..., SearchRecord]) -> SearchRecord:
    split = {"train": ["a.png"], "val": ["b.png"], "test": NAMES}
    return make_record({"protocol": PROTOCOLS["box"], "seed": 0}, split=split, caveats=["a leak was allowed"])


def score_all(calls: Sequence[tuple[TrialContext, Path | None, Sequence[str], float]]) -> list[Scores]:
    """Gives whoever has a checkpoint 20 pixels of 100 more than zero-shot."""
    return [
        Scores(
            context.protocol,
            tuple(
                PairScore(name, "tumor", name, Overlap(30 + 20 * (path is not None) + i, 100, 100), 0.9, 0.2)
                for i, name in enumerate(names)
            ),
        )
        for context, path, names, _ in calls
    ]


def look(folder: Path, record: SearchRecord, candidate: str = "trial a", **options: Any) -> HeldOutResult:
    return score_on_test(folder, record, Candidate(Path("/checkpoint")), candidate, score_all, **options)


@pytest.fixture
def judge(tmp_path: Path, record: SearchRecord) -> Judge:
    """Returns the verdict on the winner's scores and zero-shot's."""

    def judge_scores(*found: Scores) -> Verdict:
        return score_on_test(tmp_path, record, Candidate(Path("/checkpoint")), "trial a", lambda _: [*found]).verdict

    return judge_scores


def test_both_are_scored_on_the_same_pairs_and_judged(tmp_path: Path, record: SearchRecord) -> None:
    result = look(tmp_path, record)
    assert (result.opening, result.verdict.word) == (1, "beaten")
    assert result.candidate_dice - result.zeroshot_dice == pytest.approx(0.2)
    assert "a leak was allowed" in result.verdict.notes
    with result.file.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == NAMES and result.file.name == "scores_test.csv"
    assert {(row["test_opening"], row["caveats"]) for row in rows} == {("1", "a leak was allowed")}


def test_a_second_opening_is_flagged_and_keeps_the_figures_of_the_first(tmp_path: Path, record: SearchRecord) -> None:
    first = look(tmp_path, record).file.read_bytes()
    second = look(tmp_path, record, "trial b")
    assert second.opening == 2 and second.file.name == "scores_test_2.csv"
    assert any("opened 2 times" in note for note in second.verdict.notes)
    assert "opened 2 times" in second.file.read_text()
    assert (tmp_path / "scores_test.csv").read_bytes() == first


def test_a_look_that_dies_has_been_noted_and_is_no_second_one_when_it_goes_on(
    tmp_path: Path, record: SearchRecord
) -> None:
    def die(calls: object) -> list[Scores]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score_on_test(tmp_path, record, Candidate(Path("/checkpoint")), "trial a", die)
    assert [opening.candidate for opening in read_openings(tmp_path)] == ["trial a"]
    assert look(tmp_path, record).opening == 1
    assert look(tmp_path, record).opening == 2


@pytest.mark.parametrize(
    ("candidate", "is_resumed", "number"),
    [("trial a", True, 1), ("trial b", True, 2), ("trial a", False, 2)],
    ids=["goes on", "resumed with another winner", "opened by hand once more"],
)
def test_only_a_resume_may_take_up_the_same_look(
    tmp_path: Path, record: SearchRecord, candidate: str, is_resumed: bool, number: int
) -> None:
    look(tmp_path, record)
    assert look(tmp_path, record, candidate, is_resumed=is_resumed).opening == number
    assert len(read_openings(tmp_path)) == number


@pytest.mark.parametrize(
    ("gains", "word"), [((20,), "beaten"), ((-20,), "not beaten"), ((0,), "not beaten"), ((30, -26), "undecided")]
)
def test_the_verdict_follows_the_pairs(
    judge: Judge, make_scores: MakeScores, gains: tuple[int, ...], word: str
) -> None:
    verdict = judge(make_scores(*gains), make_scores(0))
    assert ("both are equal on every pair" in verdict.reason) == (gains == (0,))
    assert verdict.word == word
    assert verdict.overall.mean_difference == pytest.approx(sum(gains) / len(gains) / 100)
    assert (verdict.overall.n_pairs, verdict.overall.n_patients) == (24, 12)
    assert set(verdict.per_class) == {"tumor", "stroma, fine"}


def test_only_scores_of_one_protocol_are_compared_whatever_its_name(judge: Judge, make_scores: MakeScores) -> None:
    with pytest.raises(ProtocolMismatch, match="cannot be compared"):
        judge(make_scores(20), make_scores(0, protocol=PROTOCOLS["box"]))
    renamed = dataclasses.replace(PROTOCOLS["recorded"], name="mine")
    assert judge(make_scores(20, protocol=renamed), make_scores(0)).word == "beaten"


def test_without_prompts_only_classes_that_are_shown_are_compared(
    judge: Judge, make_scores: MakeScores, tmp_path: Path
) -> None:
    def name_alike(dice: int) -> Scores:
        shown = make_scores(dice, protocol=PROTOCOLS["auto"])
        absent = PairScore("r0.png", "vessel", "p0", Overlap(0, dice, 0), ceiling=1.0, floor=0.0)
        return Scores(shown.protocol, (*shown.pairs, absent))

    verdict = judge(name_alike(20), name_alike(0))
    assert verdict.overall.n_pairs == 24 and "vessel" not in verdict.per_class
    assert any("untrained class prompts" in note for note in verdict.notes)
    assert not any("untrained" in note for note in judge(make_scores(20), make_scores(0)).notes)
    assert "vessel" not in (tmp_path / "scores_test.csv").read_text()

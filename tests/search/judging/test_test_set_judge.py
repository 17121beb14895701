"""The winner is compared with zero-shot pair by pair, under one protocol only."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from search.judging.test_set import judge_on_test
from search.run_folder.score_table import write_scores
from trainables.protocol.overlap import Overlap
from trainables.protocol.scores import PairScore, Scores
from trainables.protocol.spec import PROTOCOLS, ProtocolMismatch

MakeScores = Callable[..., Scores]


@pytest.mark.parametrize(
    ("gains", "word"), [((20,), "beaten"), ((-20,), "not beaten"), ((0,), "not beaten"), ((30, -26), "undecided")]
)
def test_the_verdict_follows_the_pairs(make_scores: MakeScores, gains: tuple[int, ...], word: str) -> None:
    verdict = judge_on_test(make_scores(*gains), make_scores(0), seed=0)
    assert verdict.word == word
    assert verdict.overall.mean_difference == pytest.approx(sum(gains) / len(gains) / 100)
    assert (verdict.overall.n_pairs, verdict.overall.n_patients) == (24, 12)
    assert set(verdict.per_class) == {"tumor", "stroma, fine"}


def test_scores_of_two_protocols_are_never_compared(make_scores: MakeScores) -> None:
    with pytest.raises(ProtocolMismatch, match="cannot be compared"):
        judge_on_test(make_scores(20), make_scores(0, protocol=PROTOCOLS["box"]), seed=0)


def test_a_protocol_of_another_name_is_the_same_protocol(make_scores: MakeScores) -> None:
    renamed = dataclasses.replace(PROTOCOLS["recorded"], name="mine")
    assert judge_on_test(make_scores(20, protocol=renamed), make_scores(0), seed=0).word == "beaten"


def test_without_prompts_only_classes_that_are_shown_are_compared(make_scores: MakeScores, tmp_path: Path) -> None:
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

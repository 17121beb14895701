"""Finalists leave the race when their chance to win is small, by the spread that the seeds show."""

import math
from collections.abc import Sequence

import numpy as np
import pytest

from search.judging.race import ALL_FAILED, MIN_CHANCE, Standing, estimate_chances, follow_race, mark_hopeless
from search.run_folder.finalists import Finalist, SeedRun


def make_finalist(trial_id: str, scores: Sequence[float], in_search: float) -> Finalist:
    return Finalist(trial_id, in_search, {}, tuple(SeedRun(seed, "/c", 3, each) for seed, each in enumerate(scores)))


def list_out(finalists: Sequence[Finalist], n_seeds: int) -> list[str]:
    return [each.trial_id for each in mark_hopeless(finalists, n_seeds, "val Dice") if each.out]


SCORES = {"a": [0.65, 0.64, 0.66], "b": [0.64, 0.66, 0.62], "c": [0.5, 0.51, 0.52], "f": [0.9, math.nan, 0.9]}


def stand(names: str, ended: str = "", n_seeds: int = 3) -> Standing:
    """Returns where a race stands after trainings such as ``a1 b1``, in any order."""
    finalists = []
    for name in names:
        seeds = sorted(int(each[1]) for each in ended.split() if each[0] == name)
        dice = {seed: SCORES[name][seed - 1] for seed in seeds}
        runs = [SeedRun(seed, "/c", 3, each, "it failed" if math.isnan(each) else "") for seed, each in dice.items()]
        finalists.append(Finalist(name, SCORES[name][0] + 0.01, {}, tuple(runs)))
    return follow_race(finalists, range(1, n_seeds + 1), "val Dice")


def spell(standing: Standing, slots: int) -> str:
    """Returns the trainings to be begun, as ``a1 b1``."""
    return " ".join(f"{standing.finalists[index].trial_id}{seed}" for index, seed in standing.list_wanted(slots))


@pytest.mark.parametrize(
    ("names", "ended", "slots", "wanted"),
    [
        ("abc", "", 1, "a1 b1 c1 a2 a3"),
        ("abc", "", 6, "a1 b1 c1 a2 b2 c2 a3"),
        ("abc", "", 9, "a1 b1 c1 a2 b2 c2 a3 b3 c3"),
        ("abc", "b1", 2, "a1 b1 c1 a2 a3"),  # the search has it lead until its own seeds speak
        ("abc", "a1 b1", 2, "a1 b1 c1 a2 a3"),
        ("abc", "a1 b1 c1", 2, "a1 b1 a2 b2 a3"),
        ("abc", "a1 b1 c1", 4, "a1 b1 a2 b2 a3 b3"),
        ("abc", "a1 b1 c1 a2", 2, "a1 b1 a2 b2 a3"),  # two seeds of one are not compared with one of the other
        ("abc", "a1 b1 c1 a3 b3", 2, "a1 b1 a2 b2 a3"),  # nor is a seed before its turn
        ("ac", "a1 c1", 1, "a1 a2 a3"),
        ("f", "f1 f2", 1, ""),
        ("af", "f2", 3, "a1 f1 a2 a3"),  # after a failure there is no next seed
        ("a", "", 1, "a1 a2 a3"),
    ],
)
def test_seeds_go_where_the_next_comparison_needs_them_and_then_to_the_leader(
    names: str, ended: str, slots: int, wanted: str
) -> None:
    assert spell(stand(names, ended), slots) == wanted


def test_what_has_been_decided_does_not_depend_on_what_is_early() -> None:
    first, later = stand("abc", "a1 b1 c1"), stand("abc", "c1 b1 b3 a2 c2 a1 c3")
    assert first.words == later.words and len(first.words) == 1
    assert (first.racing, later.racing, later.n_compared) == ((0, 1), (0, 1), 1)
    assert later.words[0].startswith("trial c is out after 1 of 3 seeds: mean val Dice 0.500 against 0.650 of trial a")
    assert [len(each.runs) for each in later.finalists] == [2, 2, 3]  # a soup may use them all
    assert [bool(each.out) for each in later.finalists] == [False, False, True]
    assert len(list(first.list_possible())) == 6


def test_where_all_that_are_left_fail_those_that_were_out_go_on() -> None:
    before, after = stand("acf", "a1 c1 f1"), stand("acf", "a1 c1 f1 f2")
    assert (before.racing, after.racing) == ((2,), (0,))
    assert after.words[:2] == before.words and after.words[2] == ALL_FAILED
    assert "of trial f" in before.words[0] and "trial c is out" in after.words[3]
    assert [bool(each.out) for each in after.finalists] == [False, True, False]
    assert spell(after, 1) == "a1 a2 a3"


def test_a_race_of_failures_ends_without_anybody() -> None:
    standing = stand("f", "f1 f2")
    assert standing.racing == () and standing.words == () and not list(standing.list_possible())


def test_who_is_far_behind_for_the_spread_of_seeds_is_out_and_the_reason_is_in_words() -> None:
    rows = (("a", [0.65], 0.66), ("b", [0.645], 0.65), ("c", [0.5], 0.51))
    first, near, far = (make_finalist(*row) for row in rows)
    marked = mark_hopeless([far, first, near], 3, "val Dice")
    assert [bool(each.out) for each in marked] == [True, False, False]
    assert marked[0].out.startswith("out after 1 of 3 seeds: mean val Dice 0.500 against 0.650 of trial a; its chance")


def test_a_wide_spread_keeps_all_in_the_race() -> None:
    assert list_out([make_finalist("a", [0.65], 0.75), make_finalist("b", [0.6], 0.72)], 3) == []


@pytest.mark.parametrize("n_seeds", [1, 2])
def test_with_all_seeds_nobody_leaves(n_seeds: int) -> None:
    finalists = [make_finalist("a", [0.65] * n_seeds, 0.65), make_finalist("b", [0.1] * n_seeds, 0.1)]
    assert mark_hopeless(finalists, n_seeds, "val Dice") == finalists


def test_who_failed_with_a_seed_is_no_opponent() -> None:
    failed = Finalist("f", 0.9, {}, (SeedRun(1, "", 0, math.nan, "the loss became nan"),))
    assert list_out([failed, make_finalist("a", [0.65], 0.65)], 3) == []
    assert list_out([failed, make_finalist("a", [0.65], 0.65), make_finalist("b", [0.5], 0.5)], 3) == ["b"]


def test_scores_without_any_spread_decide_at_once_and_equal_ones_never() -> None:
    assert list_out([make_finalist("a", [0.65], 0.65), make_finalist("b", [0.64], 0.64)], 3) == ["b"]
    assert list_out([make_finalist("a", [0.65], 0.65), make_finalist("b", [0.65], 0.65)], 3) == []


def test_a_chance_is_the_share_of_races_that_the_trailing_one_wins() -> None:
    """By simulation: of races that stand as this one does, with three of six seeds, few more are won than was said."""
    rng, foretold, won = np.random.default_rng(0), [], []
    for _ in range(2_000):
        scores = rng.normal([[0.0], [-0.5]], 1.0, (2, 7))
        finalists = [make_finalist(name, row[:3], row[6]) for name, row in zip("ab", scores, strict=True)]
        chances, leads = estimate_chances(finalists, 6), scores[:, :3].mean(axis=1)
        trailing = int(leads.argmin())
        foretold.append(chances["ab"[trailing]])
        won.append(scores[trailing, :6].mean() > scores[1 - trailing, :6].mean())
    by_chance = np.argsort(foretold)
    for part in np.array_split(by_chance, 4):
        assert abs(np.mean(np.array(won)[part]) - np.mean(np.array(foretold)[part])) < 0.06
    assert 0.05 < np.mean(np.array(foretold) < MIN_CHANCE) < 0.5

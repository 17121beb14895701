"""Finalists leave the race when their chance to win is small, by the spread that the seeds show."""

import math
from collections.abc import Sequence

import numpy as np
import pytest

from search.judging.race import MIN_CHANCE, estimate_chances, mark_hopeless
from search.run_folder.finalists import Finalist, SeedRun


def make_finalist(trial_id: str, scores: Sequence[float], in_search: float) -> Finalist:
    return Finalist(trial_id, in_search, {}, tuple(SeedRun(seed, "/c", 3, each) for seed, each in enumerate(scores)))


def list_out(finalists: Sequence[Finalist], n_seeds: int) -> list[str]:
    return [each.trial_id for each in mark_hopeless(finalists, n_seeds, "val Dice") if each.out]


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

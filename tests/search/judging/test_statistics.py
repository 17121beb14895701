"""The figures of a verdict: boundaries, degenerate input, and what the rule says without a difference."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from search.judging.paired_scores import read_scores
from search.judging.statistics import (
    Comparison,
    Interval,
    adjust_holm,
    bootstrap_intervals,
    compare,
    signed_rank_p_value,
)
from search.judging.verdict import decide

CLEAR = Comparison(
    mean_difference=0.05,
    interval=Interval(0.03, 0.07, 0.95),
    strict_interval=Interval(0.02, 0.08, 0.99),
    p_value=0.001,
    ranks_favor_candidate=True,
    n_pairs=180,
    n_patients=45,
    wins=100,
    losses=70,
    ties=10,
)


def patients(n: int, pairs_each: int = 1) -> np.ndarray:
    return np.repeat([f"p{i}" for i in range(n)], pairs_each)


@pytest.mark.parametrize(
    ("change", "word", "reason"),
    [
        ({}, "beaten", "99 %"),
        ({"n_patients": 6}, "beaten", "99 %"),
        ({"n_patients": 5}, "undecided", "5 patients are too few"),
        ({"n_patients": 1, "interval": None, "strict_interval": None}, "undecided", "1 patient is too few"),
        ({"p_value": 0.05}, "undecided", "signed-rank"),
        ({"ranks_favor_candidate": False}, "undecided", "signed-rank"),
        ({"strict_interval": Interval(0.0, 0.08, 0.99)}, "undecided", "99 %"),
        (
            {"interval": Interval(0.0, 0.07, 0.95), "strict_interval": Interval(-0.1, 0.1, 0.99)},
            "undecided",
            "includes 0",
        ),
        (
            {"interval": Interval(-0.07, 0.0, 0.95), "strict_interval": Interval(-0.08, 0.01, 0.99)},
            "not beaten",
            "at or below",
        ),
    ],
)
def test_decide_at_its_boundaries(change: dict[str, object], word: str, reason: str) -> None:
    said, why = decide(replace(CLEAR, **change))
    assert said == word
    assert reason in why


@pytest.mark.parametrize(("difference", "word"), [(0.0, "not beaten"), (0.1, "beaten"), (-0.1, "not beaten")])
def test_equal_differences_give_an_interval_without_width(difference: float, word: str) -> None:
    # 0.3 - 0.2 is not 0.1 in floating point: the noise must not decide
    noisy = np.full(20, difference) + np.tile([0.0, 3e-17], 10)
    found = compare(noisy, patients(10, 2), np.random.default_rng(0))
    assert found.interval is not None
    assert (found.interval.low, found.interval.high) == pytest.approx((difference, difference), abs=1e-12)
    assert (found.p_value == 1) == (difference == 0)
    assert decide(found)[0] == word


@pytest.mark.parametrize("n_differing", [1, 3, 5])
def test_a_few_differing_patients_are_not_enough_and_one_has_no_interval(n_differing: int) -> None:
    difference = np.zeros(45)
    difference[:n_differing] = 0.2
    assert decide(compare(difference, patients(45), np.random.default_rng(0)))[0] == "undecided"
    alone = compare(np.array([0.1, 0.2]), patients(1, 2), np.random.default_rng(0))
    assert alone.interval is None and decide(alone)[0] == "undecided"


def test_swapping_the_models_mirrors_the_figures() -> None:
    difference = np.random.default_rng(5).normal(0.03, 0.1, 60)
    there = compare(difference, patients(20, 3), np.random.default_rng(0))
    back = compare(-difference, patients(20, 3), np.random.default_rng(0))
    assert back.mean_difference == -there.mean_difference
    assert back.p_value == there.p_value
    assert (back.wins, back.losses) == (there.losses, there.wins)
    assert there.interval is not None and back.interval is not None
    assert (-back.interval.high, -back.interval.low) == pytest.approx(
        (there.interval.low, there.interval.high), abs=1e-3
    )


def test_pairs_of_one_patient_do_not_count_as_independent() -> None:
    means = np.random.default_rng(6).normal(0, 0.1, 20)
    once = compare(means, patients(20), np.random.default_rng(0))
    copied = compare(np.repeat(means, 9), patients(20, 9), np.random.default_rng(0))
    assert once.interval is not None and copied.interval is not None
    assert (copied.interval.low, copied.interval.high) == pytest.approx((once.interval.low, once.interval.high))
    assert copied.p_value == once.p_value


def test_interval_agrees_with_theory_for_normal_differences() -> None:
    values = np.random.default_rng(7).normal(0.1, 1.0, 400)
    (found,) = bootstrap_intervals(values, np.ones(400), (0.95,), np.random.default_rng(0))
    assert found is not None
    half_width = 1.96 * values.std(ddof=1) / 20
    assert (found.low, found.high) == pytest.approx((values.mean() - half_width, values.mean() + half_width), abs=0.01)


@pytest.mark.parametrize(("n_patients", "p_value"), [(5, 2 / 2**5), (6, 2 / 2**6), (8, 2 / 2**8)])
def test_smallest_p_value_halves_with_each_patient(n_patients: int, p_value: float) -> None:
    assert signed_rank_p_value(np.linspace(0.1, 0.2, n_patients)) == pytest.approx(p_value)


def test_holm_on_a_worked_example() -> None:
    # ascending: 0.01 * 4, 0.02 * 3, 0.03 * 2, 0.5; never below an earlier one
    assert adjust_holm([0.02, 0.5, 0.01, 0.03]) == pytest.approx((0.06, 0.5, 0.04, 0.06))
    assert adjust_holm([]) == ()


@pytest.mark.parametrize("null", ["flip", "resample"])
@pytest.mark.parametrize(
    "models", [("dice_box_neg", "dice_box"), ("dice_box", "dice_box_neg"), ("dice_box", "dice_centroid")]
)
def test_beaten_is_rare_without_a_difference(recorded_scores: Path, null: str, models: tuple[str, str]) -> None:
    # 2,000 draws are in benchmarks/verdict_power.py; at 5 %, more than 14 of 150 are seen once in 100
    scores = read_scores(recorded_scores, *models)
    difference = scores.candidate - scores.baseline
    difference = difference - difference.mean()
    blocks = [difference[scores.patient == patient] for patient in np.unique(scores.patient)]
    rng = np.random.default_rng(11)
    n_beaten = 0
    for _ in range(150):
        if null == "flip":
            drawn = [block * rng.choice((-1, 1)) for block in blocks]
        else:
            drawn = [blocks[i] for i in rng.integers(len(blocks), size=len(blocks))]
        names = np.repeat([f"p{i}" for i in range(len(drawn))], [block.size for block in drawn])
        n_beaten += decide(compare(np.concatenate(drawn), names, rng, n_resamples=499))[0] == "beaten"
    assert n_beaten <= 14

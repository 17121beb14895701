"""A soup is exported only where validation does not lose by it, and never in place of zero-shot."""

import pytest

from search.run_folder.contenders import GREEDY, SEEDS, SINGLE, Contender, choose_contender, choose_scale


@pytest.mark.parametrize(
    ("by_scale", "chosen"),
    [
        ({0.0: 0.5, 0.5: 0.6, 1.0: 0.55, 1.25: 0.5}, 0.5),
        ({0.0: 0.5, 0.5: 0.4, 1.0: 0.3, 1.25: 0.2}, 0.0),
        ({0.0: 0.5, 0.5: 0.5, 1.0: 0.5, 1.25: 0.5}, 1.0),
        ({0.0: 0.2, 0.75: 0.5, 1.0: 0.4, 1.25: 0.5}, 0.75),
    ],
    ids=["between", "zero-shot", "all equal", "equally near to 1"],
)
def test_the_scale_with_the_best_mean_is_chosen(by_scale: dict[float, float], chosen: float) -> None:
    assert choose_scale(by_scale) == chosen


@pytest.mark.parametrize(
    ("single", "seeds", "greedy", "chosen"),
    [
        ((0.6, 1.0), (0.61, 0.75), (0.605, 1.0), SEEDS),
        ((0.6, 1.0), (0.61, 0.75), (0.62, 1.0), GREEDY),
        ((0.6, 1.0), (0.59, 1.0), (0.58, 1.0), SINGLE),
        ((0.6, 1.0), (0.6, 1.0), (0.6, 1.0), SEEDS),
        ((0.6, 1.0), (0.5, 1.0), (0.6, 1.0), GREEDY),
        ((0.5, 0.0), (0.5, 0.0), (0.5, 0.0), SINGLE),
        ((0.5, 0.0), (0.52, 0.5), (0.5, 0.0), SEEDS),
    ],
)
def test_the_best_contender_is_chosen_and_ties_go_to_soups(
    single: tuple[float, float], seeds: tuple[float, float], greedy: tuple[float, float], chosen: str
) -> None:
    scores = {SINGLE: single, SEEDS: seeds, GREEDY: greedy}
    contenders = [Contender(kind, ("a", "b"), kind, at, {at: score}) for kind, (score, at) in scores.items()]
    assert choose_contender(contenders).kind == chosen


def test_contenders_are_compared_by_the_search_s_objective() -> None:
    single = Contender(SINGLE, ("a",), "a", 1.0, {1.0: 0.9}, {1.0: 0.1})
    soup = Contender(SEEDS, ("a", "b"), "b", 1.0, {1.0: 0.5}, {1.0: 0.2})
    assert choose_contender([single, soup]) is soup and soup.val_dice == 0.5
    assert [each.describe() for each in (single, soup)] == ["best single training", "soup of 2 seeds"]

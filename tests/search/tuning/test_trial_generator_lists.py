"""Known configurations are handed out once each, in their order."""

from __future__ import annotations

from search.tuning.trial_generator import ListSearcher


def test_new_ones_come_once_and_in_order() -> None:
    configs = [{"adapter.rank": 4}, {"adapter.rank": 8}]
    searcher = ListSearcher(configs)
    assert [searcher.suggest(str(number)) for number in range(3)] == [*configs, searcher.FINISHED]
    assert searcher.suggest("late") == searcher.FINISHED


def test_a_trial_that_goes_on_has_its_own_again_and_takes_no_new_one() -> None:
    searcher = ListSearcher([{"seed": 1}], {"old": {"seed": 7}})
    first = searcher.suggest("old")
    assert isinstance(first, dict)
    first["seed"] = 0  # whoever gets one may change it
    assert searcher.suggest("old") == {"seed": 7}
    assert searcher.suggest("new") == {"seed": 1}

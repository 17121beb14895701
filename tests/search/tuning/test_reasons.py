"""Tests of search.tuning.reasons."""

import pytest

from search.tuning.reasons import spell_rank


@pytest.mark.parametrize(
    ("rank", "spelled"),
    [(1, "1st"), (2, "2nd"), (3, "3rd"), (4, "4th"), (11, "11th"), (12, "12th"), (13, "13th"), (22, "22nd")],
)
def test_ranks_are_spelled(rank: int, spelled: str) -> None:
    assert spell_rank(rank) == spelled

"""Seconds as people read them."""

from __future__ import annotations

import pytest

from search.command_line.options import format_seconds


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (130, "2 min 10 s"), (3599, "59 min 59 s"), (11100, "3 h 5 min")],
)
def test_seconds_are_formatted_for_people(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text

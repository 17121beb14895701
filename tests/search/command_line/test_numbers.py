"""Numbers on the command line: what is read, and what is refused."""

from __future__ import annotations

import argparse

import pytest

from search.command_line.numbers import (
    MAX_COUNT,
    MAX_SEED,
    format_seconds,
    make_whole_parser,
    parse_duration,
    parse_gpu_share,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("15m", 900), ("2h", 7200), ("1.5h", 5400), (" 3 m ", 180), ("0.5", 0.5)],
)
def test_durations_are_read_as_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "0.0h", "-5", "soon", "5d", "1h30m", "nan", "inf", "9" * 400, "\u0663s"])
def test_durations_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="90s, 15m, 2h"):
        parse_duration(text)


@pytest.mark.parametrize(("text", "share"), [("0", 0), ("0.01", 0.01), ("0.25", 0.25), ("1", 1), ("4", 4), ("2.0", 2)])
def testparse_gpu_shares_are_fractions_or_whole(text: str, share: float) -> None:
    assert parse_gpu_share(text) == share


@pytest.mark.parametrize("text", ["", "1.5", "-1", "-0.5", "0.001", "1e9", "nan", "inf", "half", "1_0", "\u0663"])
def testparse_gpu_shares_between_are_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="whole number of GPUs"):
        parse_gpu_share(text)


@pytest.mark.parametrize("text", ["", "-1", "1.5", "1.0", "1e3", "many", "1_0", "\u0663", str(2**32), "9" * 5000])
@pytest.mark.parametrize(("low", "high"), [(0, MAX_COUNT), (1, MAX_COUNT), (0, MAX_SEED)])
def test_whole_numbers_are_plain_digits_between_their_bounds(text: str, low: int, high: int) -> None:
    parse = make_whole_parser(low, high)
    assert (parse(str(low)), parse(str(high))) == (low, high)
    for outside in (text, str(low - 1), str(high + 1)):
        with pytest.raises(argparse.ArgumentTypeError, match=f"whole number from {low} to {high:,}, but got"):
            parse(outside)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (130, "2 min 10 s"), (3599, "59 min 59 s"), (11100, "3 h 5 min")],
)
def test_seconds_are_formatted_for_people(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text

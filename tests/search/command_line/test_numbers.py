"""Numbers on the command line: what is read, and what is refused."""

import argparse
from collections.abc import Callable

import pytest

from search.command_line.numbers import (
    MAX_COUNT,
    MAX_SEED,
    format_seconds,
    make_whole_parser,
    parse_duration,
    parse_gpu_share,
    parse_tiles,
)


def test_tiles_are_kept_as_they_are_written() -> None:
    assert [parse_tiles(text) for text in ("1024", "512,0.5,0.25")] == ["1024", "512,0.5,0.25"]


def test_durations_are_read_as_seconds() -> None:
    read = {"90": 90, "90s": 90, "15m": 900, "2h": 7200, "1.5h": 5400, " 3 m ": 180, "0.5": 0.5}
    assert {text: parse_duration(text) for text in read} == read


@pytest.mark.parametrize(
    ("parse", "words", "texts"),
    [
        (
            parse_duration,
            "90s, 15m, 2h",
            ["", "0", "0.0h", "-5", "soon", "5d", "1h30m", "nan", "inf", "9" * 400, "\u0663s"],
        ),
        (parse_tiles, "side in pixels, um a pixel and overlap", ["", "12", "1024,0.5,0.9", "a", "1024;0.5"]),
        (
            parse_gpu_share,
            "whole number of GPUs",
            ["", "1.5", "-1", "-0.5", "0.001", "1e9", "nan", "inf", "half", "1_0", "\u0663"],
        ),
    ],
)
def test_what_is_no_duration_or_share_is_refused(parse: Callable[[str], float], words: str, texts: list[str]) -> None:
    for text in texts:
        with pytest.raises(argparse.ArgumentTypeError, match=words):
            parse(text)


def test_gpu_shares_are_fractions_or_whole_or_left_to_a_measurement() -> None:
    read = {"0": 0, "0.01": 0.01, "0.25": 0.25, "1": 1, "4": 4, "2.0": 2, "auto": "auto"}
    assert {text: parse_gpu_share(text) for text in read} == read


@pytest.mark.parametrize("text", ["", "-1", "1.5", "1.0", "1e3", "many", "1_0", "\u0663", str(2**32), "9" * 5000])
@pytest.mark.parametrize(("low", "high"), [(0, MAX_COUNT), (1, MAX_COUNT), (0, MAX_SEED)])
def test_whole_numbers_are_plain_digits_between_their_bounds(text: str, low: int, high: int) -> None:
    parse = make_whole_parser(low, high)
    assert (parse(str(low)), parse(str(high))) == (low, high)
    for outside in (text, str(low - 1), str(high + 1)):
        with pytest.raises(argparse.ArgumentTypeError, match=f"whole number from {low} to {high:,}, but got"):
            parse(outside)


def test_seconds_are_formatted_for_people() -> None:
    texts = {0: "0 s", 59.4: "59 s", 59.6: "1 min 0 s", 130: "2 min 10 s", 3599: "59 min 59 s", 11100: "3 h 5 min"}
    assert {seconds: format_seconds(seconds) for seconds in texts} == texts

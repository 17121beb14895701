"""The command line of the main job: what its options take, and what they refuse."""

from __future__ import annotations

import argparse

import pytest

from search.command_line.options import _at_least_one, _gpu_share, _seed, make_parser, parse_duration
from search.run import main


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
def test_gpu_shares_are_fractions_or_whole(text: str, share: float) -> None:
    assert _gpu_share(text) == share


@pytest.mark.parametrize("text", ["", "1.5", "-1", "-0.5", "0.001", "1e9", "nan", "inf", "half", "1_0", "\u0663"])
def test_gpu_shares_between_are_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="whole number of GPUs"):
        _gpu_share(text)


@pytest.mark.parametrize("text", ["", "0", "-1", "1.0", "1e3", "many", "1_0", "\u0663", "1000001", "9" * 5000])
def test_counts_are_plain_digits_from_one_to_a_million(text: str) -> None:
    assert (_at_least_one("1"), _at_least_one("1000000")) == (1, 1_000_000)
    with pytest.raises(argparse.ArgumentTypeError, match="at least 1 and at most 1,000,000") as caught:
        _at_least_one(text)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("text", ["", "-1", "1.5", str(2**32), "\u0663", "1_0", "9" * 5000])
def test_seeds_are_what_every_generator_takes(text: str) -> None:
    assert (_seed("0"), _seed(str(2**32 - 1))) == (0, 2**32 - 1)
    with pytest.raises(argparse.ArgumentTypeError, match="from 0 to"):
        _seed(text)


@pytest.mark.parametrize(
    ("option", "told"),
    [
        (("--num-trials", "0"), "at least 1"),
        (("--max-epochs", "0"), "at least 1"),
        (("--max-concurrent", "-2"), "at least 1"),
        (("--time-budget", "nonsense"), "like 90s"),
        (("--gpus-per-trial", "1.5"), "whole number of GPUs"),
        (("--seed", "-1"), "from 0 to"),
        (("--split", "any"), "choose from"),
    ],
)
def test_refusals_name_option_and_rule(
    option: tuple[str, str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--space", "lora.yaml", *option])
    said = capsys.readouterr().err
    assert stopped.value.code == 2
    assert option[0] in said
    assert told in said


def test_a_space_is_required(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([])
    assert stopped.value.code == 2
    assert "--space" in capsys.readouterr().err


def test_help_names_every_option() -> None:
    text = make_parser().format_help()
    promised = (
        "num-trials max-epochs time-budget gpus-per-trial max-concurrent seed address data model checkpoint "
        "storage name experiment json"
    )
    assert [option for option in promised.split() if f"--{option}" not in text] == []

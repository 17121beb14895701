"""Every option is described once: parser, defaults and record follow from the fields."""

from __future__ import annotations

import argparse
import dataclasses
import shlex

import pytest

from search.command_line.options import (
    FIELDS,
    SearchOptions,
    add_run_options,
    compose_command,
    dash,
    make_parser,
    make_resume_parser,
    parse_options,
)

# One value of each option as a user writes it, and as the field holds it.
GIVEN = {
    "--data": ("d", "d"),
    "--split": ("bcss", "bcss"),
    "--folds": ("2", 2),
    "--model": ("tiny", "tiny"),
    "--checkpoint": ("w.pt", "w.pt"),
    "--pathology-weights": ("a=b", ("a=b",)),
    "--warm-start": ("a", ("a",)),
    "--protocol": ("box", "box"),
    "--tiles": ("512,0.5", "512,0.5"),
    "--clip-weights": ("c.pt", "c.pt"),
    "--clip-model": ("ViT-B-32", "ViT-B-32"),
    "--prompt-texts": ("t.yaml", "t.yaml"),
    "--set": ("a=1", ("a=1",)),
    "--preset": ("quick", "quick"),
    "--num-trials": ("4", 4),
    "--max-epochs": ("5", 5),
    "--confirm": ("0", 0),
    "--confirm-seeds": ("1", 1),
    "--time-budget": ("2m", 120.0),
    "--seed": ("7", 7),
    "--gpus-per-trial": ("0.5", 0.5),
    "--max-concurrent": ("2", 2),
    "--address": ("auto", "auto"),
    "--storage": ("else", "else"),
    "--name": ("first", "first"),
    "--experiment": ("mine", "mine"),
    "--on-end": ("echo $SAM2_SEARCH_STATE", "echo $SAM2_SEARCH_STATE"),
}


def test_what_is_not_given_has_the_fields_default() -> None:
    assert parse_options(make_parser(), ["--space", "lora"]) == SearchOptions(space="lora")
    assert parse_options(make_parser(), ["--resume", "last"]) == SearchOptions(resume="last")


def test_what_is_given_reaches_its_field() -> None:
    words = [word for option, (text, _) in GIVEN.items() for word in (option, text)]
    options = parse_options(
        make_parser(), ["--space", "lora", *words, "--allow-leak", "--retry-failed", "--dry-run", "--json"]
    )
    flags = {"space": "lora", "allow_leak": True, "retry_failed": True, "dry_run": True, "json": True}
    values = {name: flags[name] if name in flags else GIVEN[dash(name)][1] for name in FIELDS if name != "resume"}
    assert options == SearchOptions(**values)
    twice = ["--space", "lora", "--pathology-weights", "a=b", "--pathology-weights", "c=d"]
    assert parse_options(make_parser(), twice).pathology_weights == ("a=b", "c=d")
    several = ["--warm-start", "a", "b", "--warm-start", "c", "--space", "lora"]
    assert parse_options(make_parser(), several).warm_start == ("a", "b", "c")


def test_a_preset_gives_way_to_what_stands_beside_it() -> None:
    thorough = parse_options(make_parser(), ["--space", "lora", "--preset", "thorough", "--confirm", "3"])
    assert (thorough.num_trials, thorough.confirm, thorough.confirm_seeds) == (200, 3, 5)
    assert parse_options(make_parser(), ["--space", "lora"]).num_trials is None


def test_the_verb_resume_has_the_last_search_and_what_may_differ_now() -> None:
    assert parse_options(make_resume_parser(), []) == SearchOptions(resume="last")
    options = parse_options(make_resume_parser(), ["a", "--num-trials", "9"])
    assert (options.resume, options.num_trials) == ("a", 9)
    assert "--seed" not in make_resume_parser().format_help()


def test_help_names_every_option_with_its_text() -> None:
    text = " ".join(make_parser().format_help().split())
    for name, field in FIELDS.items():
        assert f"{dash(name)} " in text and field.metadata["argparse"]["help"] in text


@pytest.mark.parametrize(("words", "storage"), [([], "runs"), (["--storage", "else"], "else")])
def test_searches_lie_in_runs_unless_another_storage_is_given(words: list[str], storage: str) -> None:
    parser = argparse.ArgumentParser()
    add_run_options(parser)
    assert parser.parse_args(["--run", "a", *words]).storage == storage


def test_a_command_that_is_composed_of_options_gives_the_same_options() -> None:
    words = ["--space", "my space?.yaml", "--data", "slides #1", "--allow-leak", "--time-budget", "15m", "--seed", "3"]
    words += ["--retry-failed"]  # for a resume alone
    words += ["--warm-start", "a", "b c", "--pathology-weights", "a=it's", "--pathology-weights", "b=c"]
    words += ["--gpus-per-trial", "0.5", "--name", "n", "--preset", "quick", "--confirm", "3"]
    command = shlex.split(compose_command("search.check", parse_options(make_parser(), words)))
    assert command[:3] == ["python", "-m", "search.check"]
    again = parse_options(make_parser(), command[3:])
    expected = dataclasses.replace(parse_options(make_parser(), words), name=None, preset=None, retry_failed=False)
    assert again == expected

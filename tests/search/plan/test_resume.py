"""Which search is resumed, and what must be as it was."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from search.cluster.resources import TrialResources
from search.command_line.options import SearchOptions, make_parser, parse_options
from search.errors import ConfigError
from search.plan.planner import make_plan
from search.plan.resume import ResumedSearch, read_resumed
from search.run_folder.layout import describe_resume
from search.run_folder.search_record import SearchRecord
from search.space.config import find_space
from search.stages.session import claim_folder, open_session, reopen_session
from search.stages.trials import make_searcher
from search.study.study_file import make_study_file
from search.tracking.tracker import Tracker
from trainables.errors import InputError

RESOURCES, CONSOLE = TrialResources(cpus=1, gpus=0.0, concurrent=1), Console(file=io.StringIO())
Begin = Callable[[str], Path]


@pytest.fixture
def begin(options: SearchOptions, tracker: Tracker, tmp_path: Path) -> Begin:
    """Begins a search over a space file beside the data, and returns its folder."""
    shutil.copy(find_space("lora.yaml"), tmp_path / "own.yaml")
    own = dataclasses.replace(options, space=str(tmp_path / "own.yaml"), confirm=0, max_concurrent=1, num_trials=4)

    def start(name: str) -> Path:
        mine = make_plan(dataclasses.replace(own, name=name))
        return open_session(claim_folder(mine), RESOURCES, tracker, CONSOLE).plan.folder

    return start


@pytest.fixture
def begun(begin: Begin) -> Path:
    return begin("first")


def resume(run: str, storage: Path, *options: str) -> ResumedSearch:
    return read_resumed(parse_options(make_parser(), ["--resume", run, "--storage", str(storage), *options]))


def test_the_plan_is_what_it_was(begun: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own.yaml").unlink()  # its copy lies in the search's folder
    monkeypatch.chdir("/")
    resumed = resume(str(begun), tmp_path / "elsewhere")
    plan = resumed.plan
    assert (plan.folder, plan.name, plan.options.seed, plan.options.confirm) == (begun, "first", 4, 0)
    assert (plan.config.num_trials, resumed.adds_trials) == (4, False)
    assert plan.data.split.train == tuple(resumed.record.split["train"])


def test_where_it_runs_stays_unless_given(begun: Path) -> None:
    assert resume("first", begun.parent).plan.options.max_concurrent == 1
    assert resume("first", begun.parent, "--max-concurrent", "2").plan.options.max_concurrent == 2


def test_last_is_the_search_that_was_begun_or_resumed_last(begun: Path, begin: Begin, tmp_path: Path) -> None:
    second = begin("second")
    os.utime(begun / "search.json", (1, 1))
    assert resume("last", begun.parent).plan.folder == second
    with pytest.raises(ConfigError, match="holds no searches"):
        resume("last", tmp_path / "data")


def test_more_trials_are_added_to_the_same_parent_run(begun: Path, tracker: Tracker) -> None:
    resumed = resume("first", begun.parent, "--num-trials", "6")
    assert resumed.adds_trials
    tracker.finish(resumed.record.parent_run_id, "KILLED")
    session = reopen_session(resumed, RESOURCES, tracker, CONSOLE)
    assert tracker.get_run(session.record.parent_run_id).info.status == "RUNNING"
    again = resume("first", begun.parent)
    assert (again.plan.config.num_trials, again.adds_trials) == (6, False)


def test_trials_that_were_planned_and_have_not_begun_can_be_asked_for(begun: Path) -> None:
    resumed = resume("first", begun.parent)
    searcher = make_searcher(resumed.plan.config, make_study_file(begun, resumed.record))
    searcher.suggest("a")  # the others had no time; the starting points among them wait in the study
    assert not resumed.adds_trials and resume("first", begun.parent, "--num-trials", "4").adds_trials
    for trial_id in "bcd":
        searcher.suggest(trial_id)
    assert not resume("first", begun.parent, "--num-trials", "4").adds_trials


def test_failed_trials_are_tried_again_and_the_choice_is_made_again(begun: Path) -> None:
    resumed = resume("first", begun.parent)
    searcher = make_searcher(resumed.plan.config, make_study_file(begun, resumed.record))
    searcher.suggest("a")
    searcher.on_trial_complete("a", error=True)
    again = resume("first", begun.parent, "--retry-failed")
    assert again.adds_trials and not resume("first", begun.parent).adds_trials
    searcher.retry_failed()
    with pytest.raises(ConfigError, match="each that has was tried again"):
        resume("first", begun.parent, "--retry-failed")


def test_a_space_with_settings_is_resolved_in_the_folder(
    options: SearchOptions, tracker: Tracker, tmp_path: Path
) -> None:
    space = tmp_path / "mine.yaml"
    space.write_text("extends: lora.yaml\nnum_trials: 4\n")
    options = dataclasses.replace(options, space=str(space), set=("optim.lr.high=3e-3", "augment.strength=null"))
    session = open_session(claim_folder(make_plan(options)), RESOURCES, tracker, CONSOLE)
    space.unlink()
    assert "space    lora.yaml, mine.yaml, --set optim.lr.high=3e-3" in "\n".join(session.plan.to_lines())
    resumed = resume("first", session.plan.folder.parent)
    assert resumed.plan.config == session.plan.config
    assert resumed.record.arguments["set"] == list(options.set)


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["--seed", "5"], "--seed: is fixed"),
        (["--max-epochs", "3"], "--max-epochs: is fixed"),
        (["--num-trials", "3"], "has 4 trials already planned"),
        (["--seed", "5", "--protocol", "box"], "--protocol: is fixed"),
        (["--warm-start", "a"], "--warm-start: is fixed"),
        (["--set", "sampler.kind=gp"], "--set: is fixed"),
        (["--retry-failed"], "--retry-failed: no trial has failed, or each that has was tried again"),
    ],
)
def test_what_the_search_has_decided_stays(begun: Path, words: list[str], found: str) -> None:
    with pytest.raises(ConfigError, match=found):
        resume("first", begun.parent, *words)


def test_a_changed_space_is_refused(begun: Path) -> None:
    space = begun / "own.yaml"
    space.write_text(space.read_text().replace("high: 1.0e-2", "high: 2.0e-2"))
    with pytest.raises(ConfigError, match="space of the space: has changed"):
        resume("first", begun.parent)


def test_an_unknown_search_is_named(begun: Path) -> None:
    with pytest.raises(ConfigError, match="--resume third: no such search -> known are: first"):
        resume("third", begun.parent)


@pytest.mark.parametrize("part", ["", "config", "arguments", "context"])
def test_a_record_of_wrong_content_is_reported_or_goes_on(
    begun: Path, part: str, mutate: Callable[[Any, str], Iterator[Any]]
) -> None:
    path, n_planned = begun / "search.json", 0
    changes = list(mutate(json.loads(path.read_text()), part))
    random.Random(0).shuffle(changes)
    for changed in changes:
        if part == "arguments" and not changed["arguments"].get("data"):
            continue  # the demo's data would be made
        path.write_text(json.dumps(changed))
        try:
            SearchRecord.read(begun)
            n_planned += 1
            if n_planned <= 8:  # a plan takes half a second
                resume("first", begun.parent)
        except (ConfigError, InputError) as error:
            assert error.findings
    assert n_planned


@pytest.mark.parametrize(
    ("folder", "command"), [("/a/runs/b-1", "/a/runs/b-1"), ("/my data/b", "'/my data/b'"), ("/it's", "'/it'\"'\"'s'")]
)
def test_the_command_can_be_pasted(folder: str, command: str) -> None:
    assert describe_resume(Path(folder)) == f"python -m search.run --resume {command}"

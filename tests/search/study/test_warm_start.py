"""What a new search takes from an earlier one: its trials, its best configurations, or nothing, with the reasons."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from search.errors import ConfigError
from search.plan.planner import make_plan
from search.plan.search_plan import SearchPlan
from search.space.config import find_space
from search.stages.session import Session
from search.stages.trials import make_searcher
from search.study.study_file import StudyFile, make_study_file
from search.study.trial_attributes import count_states, name_origin, read_all_trials, read_curve, read_trials

Again = Callable[..., SearchPlan]
WHOLE = find_space("lora.yaml").read_text()
CURVES = {"a": [0.4, 0.5] + [0.6] * 6, "b": [0.7], "c": [], "d": [0.3]}  # complete, stopped, failed, stopped


@pytest.fixture
def earlier(session: Session) -> Path:
    """A search of four trials, by the searcher itself."""
    config = dataclasses.replace(session.plan.config, num_trials=4, start_from=())
    searcher = make_searcher(config, make_study_file(session.plan.folder, session.record))
    for trial_id, curve in CURVES.items():
        searcher.suggest(trial_id)
        for epoch, value in enumerate(curve[:-1], start=1):
            searcher.on_trial_result(trial_id, {"training_iteration": epoch, "val_dice": value})
        last = {"training_iteration": len(curve), "val_dice": curve[-1]} if curve else None
        searcher.on_trial_complete(trial_id, last, error=not curve)
    return session.plan.folder


@pytest.fixture
def again(earlier: Path, session: Session) -> Again:
    """Makes the plan of another search that starts from it, with changed options."""
    return lambda **changes: make_plan(
        dataclasses.replace(session.plan.options, **{"name": "second", "warm_start": ("first",)} | changes)
    )


@pytest.fixture
def own_space(tmp_path: Path) -> Callable[[str, str], str]:
    """Writes lora.yaml with a change and returns its path."""

    def write(old: str, new: str) -> str:
        assert old in WHOLE
        (tmp_path / "own.yaml").write_text(WHOLE.replace(old, new))
        return str(tmp_path / "own.yaml")

    return write


def list_best(folder: Path, session: Session) -> list[dict[str, Any]]:
    trials = {name_origin(trial): trial.params for trial in read_trials(make_study_file(folder, session.record))}
    return [trials[name] for name in ("b", "a", "d")]


def test_the_trials_of_a_search_that_agrees_join_the_study(again: Again, earlier: Path, session: Session) -> None:
    plan = again()
    assert plan.warm_start.notes == ("first: 3 ended trials; the best configuration is trained again",)
    study_file = StudyFile(earlier.parent / "second.journal", "second", seed=5)
    plan.warm_start.give_to(study_file, 2)
    trials = read_all_trials(study_file)[1]
    assert [name_origin(trial) for trial in trials] == ["first/a", "first/b", "first/d"]
    assert count_states(trials) == {"complete": 1, "stopped": 2}
    assert [len(read_curve(trial)) for trial in trials] == [8, 1, 1]
    searcher = make_searcher(dataclasses.replace(plan.config, num_trials=2), study_file)
    assert searcher.suggest("e") == list_best(earlier, session)[0]
    assert isinstance(searcher.suggest("f"), dict) and searcher.suggest("g") == "FINISHED"
    names = [trial.user_attrs["starting_point"] for trial in read_trials(study_file)]
    assert names == ["from first trial b", plan.config.start_from[0].name]
    assert make_searcher(plan.config, study_file).suggest("e") == list_best(earlier, session)[0]  # as after a stop


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"max_epochs": 3}, "max_epochs (8 there, 3 here)"),
        ({"set": ("scales=[0.5]",)}, "the scales of the update that count"),
        ({"protocol": "box"}, "the protocol ("),
        ({"folds": 2}, "the folds"),
        ({"space": ("high: 1.0e-2", "high: 2.0e-2")}, "the space (optim.lr)"),
    ],
)
def test_configurations_come_first_where_scores_do_not_compare(
    again: Again, earlier: Path, session: Session, own_space: Any, changes: dict[str, Any], words: str
) -> None:
    changes |= {"space": own_space(*changes["space"])} if "space" in changes else {}
    found = again(**changes).warm_start
    assert not found.trials and words in found.notes[0]
    assert found.notes[0].startswith("first: 3 configurations to try first; its scores do not compare")
    for point, params in zip(found.points, list_best(earlier, session), strict=True):
        assert point.values.items() <= params.items()  # without those that have no effect beside the others


def test_a_configuration_that_is_tried_first_anyway_is_not_tried_twice(
    again: Again, earlier: Path, session: Session, own_space: Any
) -> None:
    best = json.dumps(list_best(earlier, session)[0])
    space = own_space("start_from:", f"start_from:\n  - {best}")
    assert [point.name for point in again(space=space, max_epochs=3).warm_start.points] == [
        "from first trial a",
        "from first trial d",
    ]
    assert not again(space=space).warm_start.points and len(again(space=space).warm_start.trials) == 3


def test_a_configuration_of_two_searches_is_tried_once(again: Again, earlier: Path) -> None:
    shutil.copytree(earlier, earlier.parent / "other")
    both = again(warm_start=("first", "other")).warm_start
    assert (len(both.trials), len(both.points)) == (6, 1)
    assert again(warm_start=("first", "other"), max_epochs=3).warm_start.points == again(max_epochs=3).warm_start.points


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"space": (WHOLE, "space: {optim.lr: {low: 0.5, high: 1.0}}")},
            r"lies in the space: .*optim.lr is .*outside 0.5 to 1 \(3 trials alike\)",
        ),
        ({"warm_start": ("third", "first", "fourth")}, "third: no such search.*fourth: no such search"),
        ({"space": "prompts"}, "has no effect"),
    ],
)
def test_what_gives_nothing_is_refused(again: Again, own_space: Any, changes: dict[str, Any], words: str) -> None:
    changes |= {"space": own_space(*changes["space"])} if isinstance(changes.get("space"), tuple) else {}
    with pytest.raises(ConfigError, match=f"(?s){words}"):
        again(**changes)


def test_a_search_without_an_ended_trial_gives_nothing(session: Session) -> None:
    options = dataclasses.replace(session.plan.options, name="second", warm_start=("first",))
    with pytest.raises(ConfigError, match="has no trial that was trained and has ended"):
        make_plan(options)

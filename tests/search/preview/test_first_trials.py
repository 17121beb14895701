"""The trials that a preview shows are those that the search draws."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from search.plan.search_plan import SearchPlan
from search.preview.first_trials import FirstTrial, draw_trials, tabulate_trials
from search.stages.trials import make_searcher
from search.study.study_file import plan_study_file


def test_the_search_draws_the_same_trials(plan: SearchPlan, tmp_path: Path) -> None:
    found = draw_trials(plan, 3)
    study_file = plan_study_file(tmp_path, plan.name, plan.config.to_dict(), plan.options.seed)
    searcher = make_searcher(plan.config, study_file)
    assert [dict(trial.values) for trial in found] == [searcher.suggest(name) for name in "abc"]
    assert [trial.starting_point for trial in found] == ["dice-led", "", ""]


def test_no_more_trials_than_the_search_has(plan: SearchPlan) -> None:
    two = dataclasses.replace(plan, config=dataclasses.replace(plan.config, num_trials=2))
    assert len(draw_trials(two, 10)) == 2


def test_the_table_has_a_dash_where_a_parameter_does_not_apply() -> None:
    trials = [FirstTrial({"optim.lr": 0.00123456, "adapter.rank": number}, "") for number in range(6)]
    lines = tabulate_trials(trials, ["optim.lr", "adapter.rank", "augment.strength"])
    assert lines[0].split() == ["trial", "0", "1", "2", "3", "4"] and lines[5].split() == ["trial", "5"]
    assert lines[1].split()[:2] == ["optim.lr", "0.00123"] and lines[3].split()[1:] == ["-"] * 5


def test_switches_are_spelled_as_in_a_space() -> None:
    assert tabulate_trials([FirstTrial({"tiles": True}, "")], ["tiles"])[1].split() == ["tiles", "true"]

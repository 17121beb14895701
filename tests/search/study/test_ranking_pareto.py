"""The Pareto set of Dice and trained parameters."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from search.run_folder.layout import PARETO_FILE
from search.study.ranking import RankedTrial, describe_pareto, find_pareto, write_pareto


def make_trial(trial_id: str, dice: float, parameters: int) -> RankedTrial:
    return RankedTrial(trial_id, Path("/c"), 3, dice, {}, trained_parameters=float(parameters))


def test_the_pareto_set_by_hand() -> None:
    trials = [
        make_trial("best", 0.7, 900),
        make_trial("as good, larger", 0.7, 1000),
        make_trial("smaller", 0.6, 100),
        make_trial("smaller twin", 0.6, 100),
        make_trial("worse than a smaller one", 0.5, 101),
        make_trial("as small, worse", 0.5, 100),
        make_trial("smallest", 0.4, 50),
    ]
    names = [each.trial_id for each in find_pareto(trials)]
    assert names == ["best", "smaller", "smaller twin", "smallest"]
    assert find_pareto([]) == []


@pytest.mark.parametrize("seed", range(4))
def test_the_pareto_set_is_what_its_definition_says(seed: int) -> None:
    draw = random.Random(seed)
    trials = [make_trial(str(n), draw.randrange(8) / 10, draw.randrange(8)) for n in range(30)]

    def is_beaten(one: RankedTrial) -> bool:
        mine = (-one.val_dice, one.trained_parameters)
        theirs = [(-each.val_dice, each.trained_parameters) for each in trials]
        return any(other != mine and other[0] <= mine[0] and other[1] <= mine[1] for other in theirs)

    members = find_pareto(trials)
    assert {each.trial_id for each in members} == {each.trial_id for each in trials if not is_beaten(each)}
    assert [each.val_dice for each in members] == sorted((each.val_dice for each in members), reverse=True)


def test_the_set_is_written_and_printed(tmp_path: Path) -> None:
    members = [make_trial("a", 0.7, 95_520), make_trial("b", 0.6, 1000)]
    write_pareto(tmp_path, members, "ab12cd34")
    content = json.loads((tmp_path / PARETO_FILE).read_text())
    assert content["protocol_id"] == "ab12cd34"
    assert content["members"][0] == {"trial_id": "a", "val_dice": 0.7, "trained_parameters": 95_520, "epoch": 3}
    assert [path.name for path in tmp_path.iterdir()] == [PARETO_FILE]
    text = "\n".join(describe_pareto(members, 0.65))
    assert "0.700 (+0.050), 95,520 trained parameters" in text
    assert "highest mean Dice over seeds is chosen" in text

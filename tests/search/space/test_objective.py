"""One objective or two, as a space file says them, and the trials that no other beats in both."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from search.errors import ConfigError
from search.run_folder.layout import PARETO_FILE
from search.space.config import load_config
from search.space.objective import PAIR, Objective
from search.study.ranking import RankedTrial, describe_pareto, find_pareto, write_pareto

SPACE = "space:\n  optim.lr: {low: 1.0e-4, high: 1.0e-2}\n"


def load_objective(folder: Path, text: str) -> Objective:
    path = folder / "tiny.yaml"
    path.write_text(f"{SPACE}{text}")
    return load_config(path, ("recorded",)).objective


def make_trial(trial_id: str, dice: float, parameters: int) -> RankedTrial:
    return RankedTrial(trial_id, Path("/c"), 3, dice, {}, trained_parameters=float(parameters))


@pytest.mark.parametrize(
    ("text", "metrics", "modes"),
    [
        ("", ("val_dice",), ("max",)),
        ("objective: val_dice_min_class\n", ("val_dice_min_class",), ("max",)),
        ("objective: val_iou\n", ("val_iou",), ("max",)),
        ("objective: [val_dice, trained_parameters]\n", PAIR, ("max", "min")),
    ],
)
def test_what_a_space_file_says(tmp_path: Path, text: str, metrics: tuple[str, ...], modes: tuple[str, ...]) -> None:
    objective = load_objective(tmp_path, text)
    assert (objective.metrics, objective.modes) == (metrics, modes)
    assert Objective.from_config(json.loads(json.dumps({"objective": objective.to_plain()}))) == objective


def test_a_search_recorded_before_there_were_objectives_went_by_dice() -> None:
    assert Objective.from_config({"name": "old"}).is_dice


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("objective: val_dise\n", "did you mean 'val_dice'"),
        ("objective: trained_parameters\n", "must be one of val_dice,"),
        ("objective: [trained_parameters, val_dice]\n", "in this order"),
        ("objective: [val_iou, trained_parameters]\n", r"but got \[val_iou, trained_parameters\]"),
        ("objective: [val_dice]\n", r"but got \[val_dice\]"),
        ("objective: 3\n", r"but got 3 \(int\)"),
        ("objective:\n", "but got nothing"),
    ],
)
def test_what_is_no_objective_is_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load_objective(tmp_path, text)


def test_without_training_there_is_no_objective(tmp_path: Path) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text("train: false\nspace:\n  protocol.tta: {choice: [none, flips]}\nobjective: val_iou\n")
    with pytest.raises(ConfigError, match="objective.*has no effect with train: false"):
        load_config(path, ("recorded",))


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


def test_the_set_is_written_and_told(tmp_path: Path) -> None:
    members = [make_trial("a", 0.7, 95_520), make_trial("b", 0.6, 1000)]
    write_pareto(tmp_path, members, "ab12cd34")
    content = json.loads((tmp_path / PARETO_FILE).read_text())
    assert content["protocol_id"] == "ab12cd34"
    assert content["members"][0] == {"trial_id": "a", "val_dice": 0.7, "trained_parameters": 95_520, "epoch": 3}
    assert [path.name for path in tmp_path.iterdir()] == [PARETO_FILE]
    told = "\n".join(describe_pareto(members, 0.65))
    assert "0.700 (+0.050), 95,520 trained parameters" in told
    assert "highest mean Dice over seeds is chosen" in told

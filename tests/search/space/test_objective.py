"""One objective or two, as a space file says them, and the trials that no other beats in both."""

import json
from collections.abc import Callable

import pytest

from search.errors import ConfigError
from search.space.config import SearchConfig
from search.space.objective import PAIR, Objective

LoadSpace = Callable[[str], SearchConfig]
SPACE = "space:\n  optim.lr: {low: 1.0e-4, high: 1.0e-2}\n"


@pytest.mark.parametrize(
    ("text", "metrics", "modes"),
    [
        ("", ("val_dice",), ("max",)),
        ("objective: val_dice_min_class\n", ("val_dice_min_class",), ("max",)),
        ("objective: val_iou\n", ("val_iou",), ("max",)),
        ("objective: [val_dice, trained_parameters]\n", PAIR, ("max", "min")),
    ],
)
def test_what_a_file_says(load_space: LoadSpace, text: str, metrics: tuple[str, ...], modes: tuple[str, ...]) -> None:
    objective = load_space(SPACE + text).objective
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
def test_what_is_no_objective_is_refused(load_space: LoadSpace, text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load_space(SPACE + text)

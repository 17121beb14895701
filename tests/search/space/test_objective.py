"""One objective or two, as a space file says them, and the trials that no other beats in both."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from search.errors import ConfigError
from search.space.config import load_config
from search.space.objective import PAIR, Objective

SPACE = "space:\n  optim.lr: {low: 1.0e-4, high: 1.0e-2}\n"


def load_objective(folder: Path, text: str) -> Objective:
    path = folder / "tiny.yaml"
    path.write_text(f"{SPACE}{text}")
    return load_config(path).objective


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
        load_config(path)

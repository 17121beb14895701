"""Space files in which nothing varies, and those that train nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from search.errors import ConfigError
from search.space.config import SchedulerConfig, SearchConfig, load_config
from search.space.starting_points import StartingPoint

REPLAY = "fixed: {optim.lr: 1.0e-3}\n"
BARE = "train: false\n"
TTA = "train: false\nspace:\n  protocol.tta: {choice: [none, all]}\n"


def load(folder: Path, text: str) -> SearchConfig:
    path = folder / "tiny.yaml"
    path.write_text(text)
    return load_config(path)


@pytest.mark.parametrize("more", ["", "space: {}\n", "num_trials: 1\n", "scheduler: {kind: none}\n"])
def test_a_replay_is_one_trial_named_as_the_search(tmp_path: Path, more: str) -> None:
    config = load(tmp_path, REPLAY + more)
    assert config.is_replay and config.train
    assert (config.num_trials, config.max_epochs, config.scheduler) == (1, 8, SchedulerConfig("none"))
    assert config.start_from == (StartingPoint("tiny", {}),)


def test_without_training_there_are_no_epochs_and_no_scheduler(tmp_path: Path) -> None:
    config = load(tmp_path, TTA)
    assert (config.train, config.is_replay, config.max_epochs) == (False, False, 0)
    assert config.scheduler == SchedulerConfig("none")
    assert load(tmp_path, BARE).is_replay


@pytest.mark.parametrize(
    "text", [REPLAY + "name: a/b\n", BARE, TTA, TTA + "start_from: [{protocol.tta: all, note: eight views}]\n"]
)
def test_dumped_config_loads_as_an_equal_one(tmp_path: Path, text: str) -> None:
    config = load(tmp_path, text)
    assert load(tmp_path, yaml.safe_dump(config.to_dict(), sort_keys=False)) == config


@pytest.mark.parametrize(
    ("text", "where", "words"),
    [
        ("fixed: {}\n", "tiny.yaml", "has no space"),
        (REPLAY + "train: yes please\n", "tiny.yaml:2 train", "must be true or false"),
        ("space: {protocol.tta: {choice: [none, all]}}\n", "tiny.yaml:1 space.protocol.tta", "keeps one protocol"),
        (BARE + "fixed: {protocol.tat: all}\n", "tiny.yaml:2 fixed.protocol.tat", "did you mean 'protocol.tta'?"),
        (BARE + "fixed: {protocol.tta: d4}\n", "tiny.yaml:2 fixed.protocol.tta", "must be one of none, hflip"),
        (BARE + "fixed: {protocol.closing_px: 4}\n", "tiny.yaml:2 fixed", "closing_px must be 0 or odd"),
        (TTA + "start_from: recorded\n", "tiny.yaml:4 start_from", "are fine-tunes, and nothing is trained"),
        (
            "fixed: {optim.warmup_steps: 5, optim.warmup_epochs: 2}\n",
            "tiny.yaml:1 fixed",
            "the warm-up is given 2 times",
        ),
        (
            "fixed: {optim.warmup_steps: 5}\nspace: {optim.warmup_epochs: {low: 0, high: 2}}\n",
            "tiny.yaml:2 space.optim.warmup_epochs",
            "the warm-up is given 2 times",
        ),
    ],
)
def test_one_fault_is_reported_once_with_its_place(tmp_path: Path, text: str, where: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    (finding,) = caught.value.findings
    assert finding.where == where
    assert words in f"{finding.what} -> {finding.fix}"

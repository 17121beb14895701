"""Space files in which nothing varies, and those that train nothing."""

from collections.abc import Callable

import pytest
import yaml

from search.space.config import SearchConfig
from search.space.kinds import SchedulerConfig
from search.space.starting_points import StartingPoint

LoadSpace = Callable[[str], SearchConfig]
REPLAY = "fixed: {optim.lr: 1.0e-3}\n"
BARE = "train: false\n"
TTA = "train: false\nspace:\n  protocol.tta: {choice: [none, all]}\n"


@pytest.mark.parametrize("more", ["", "space: {}\n", "num_trials: 1\n", "scheduler: {kind: none}\n"])
def test_a_replay_is_one_trial_named_as_the_search(load_space: LoadSpace, more: str) -> None:
    config = load_space(REPLAY + more)
    assert config.is_replay and config.train
    assert (config.num_trials, config.max_epochs, config.scheduler) == (1, 8, SchedulerConfig("none"))
    assert config.start_from == (StartingPoint("tiny", {}),)


def test_without_training_there_are_no_epochs_and_no_scheduler(load_space: LoadSpace) -> None:
    config = load_space(TTA)
    assert (config.train, config.is_replay, config.max_epochs) == (False, False, 0)
    assert config.scheduler == SchedulerConfig("none")
    assert load_space(BARE).is_replay


@pytest.mark.parametrize(
    "text", [REPLAY + "name: a/b\n", BARE, TTA, TTA + "start_from: [{protocol.tta: all, note: eight views}]\n"]
)
def test_dumped_config_loads_as_an_equal_one(load_space: LoadSpace, text: str) -> None:
    config = load_space(text)
    assert load_space(yaml.safe_dump(config.to_dict(), sort_keys=False)) == config


@pytest.mark.parametrize(
    ("text", "where", "words"),
    [
        ("fixed: {}\n", "tiny.yaml", "has no space"),
        (REPLAY + "train: yes please\n", "2 train", "must be true or false"),
        ("space: {protocol.tta: {choice: [none, all]}}\n", "1 space.protocol.tta", "keeps one protocol"),
        (BARE + "fixed: {protocol.tat: all}\n", "2 fixed.protocol.tat", "did you mean 'protocol.tta'?"),
        (BARE + "fixed: {protocol.tta: d4}\n", "2 fixed.protocol.tta", "must be one of none, hflip"),
        (BARE + "fixed: {protocol.closing_px: 4}\n", "2 fixed", "closing_px must be 0 or odd"),
        (TTA + "start_from: recorded\n", "4 start_from", "are fine-tunes, and nothing is trained"),
        ("fixed: {optim.warmup_steps: 5, optim.warmup_epochs: 2}\n", "1 fixed", "the warm-up is given 2 times"),
        (
            "fixed: {optim.warmup_steps: 5}\nspace: {optim.warmup_epochs: {low: 0, high: 2}}\n",
            "2 space.optim.warmup_epochs",
            "the warm-up is given 2 times",
        ),
    ],
)
def test_one_fault_is_reported_once_with_its_place(
    list_faults: Callable[[str], list[tuple[str, str]]], text: str, where: str, words: str
) -> None:
    ((place, found),) = list_faults(text)
    assert place == where and words in found

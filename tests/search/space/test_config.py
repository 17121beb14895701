"""A space file is read whole, or refused with everything that is wrong in it."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from search.errors import ConfigError
from search.space.config import SearchConfig, find_space, list_spaces
from search.space.kinds import SamplerConfig, SchedulerConfig
from search.space.parameters import Choice, FloatRange, IntRange
from search.space.starting_points import StartingPoint

ListFaults = Callable[[str], list[tuple[str, str]]]
LoadSpace = Callable[[str], SearchConfig]

PROTOCOLS = ("recorded", "box")
MINIMAL = "space:\n  optim.lr: {low: 1.0e-4, high: 1.0e-2, log: true}\n"
WHOLE = """\
name: whole
description: all that a file can say
protocol: box
num_trials: 3
max_epochs: 5
scheduler: {kind: asha, grace_period: 5, reduction_factor: 2}
sampler: {kind: tpe, startup_trials: 2}
fixed: {optim.grad_clip: 2, augment.kind: none}
space:
  adapter.rank: {choice: [4, 8]}
  adapter.alpha: {choice: [4, 8.5]}
  optim.batch_size: {low: 2, high: 8, step: 2}
  optim.lr: {low: 1.0e-5, high: 1, log: true}
  adapter.dropout: {low: 0, high: 0.3, step: 0.1}
start_from:
  - {name: default, adapter.rank: 8, adapter.alpha: 4, optim.lr: 1.0e-5, adapter.dropout: 0.3}
  - {optim.batch_size: 8}
"""


def test_defaults_are_filled_in(load_space: LoadSpace) -> None:
    assert load_space(MINIMAL) == SearchConfig(
        "tiny", {"optim.lr": FloatRange(1e-4, 1e-2, log=True)}, protocol="recorded", num_trials=16, max_epochs=8
    )


def test_everything_that_a_file_says_is_read(load_space: LoadSpace) -> None:
    config = load_space(WHOLE)
    assert config == SearchConfig(
        name="whole",
        description="all that a file can say",
        protocol="box",
        num_trials=3,
        max_epochs=5,
        scheduler=SchedulerConfig("asha", grace_period=5, reduction_factor=2),
        sampler=SamplerConfig("tpe", startup_trials=2),
        fixed={"optim.grad_clip": 2.0, "augment.kind": "none"},
        space={
            "adapter.rank": Choice((4, 8)),
            "adapter.alpha": Choice((4.0, 8.5)),
            "optim.batch_size": IntRange(2, 8, step=2),
            "optim.lr": FloatRange(1e-5, 1.0, log=True),
            "adapter.dropout": FloatRange(0.0, 0.3, step=0.1),
        },
        start_from=(
            StartingPoint(
                "default", {"adapter.rank": 8, "adapter.alpha": 4.0, "optim.lr": 1e-5, "adapter.dropout": 0.3}
            ),
            StartingPoint("start-2", {"optim.batch_size": 8}),
        ),
    )
    assert isinstance(config.fixed["optim.grad_clip"], float)


@pytest.mark.parametrize(
    "text",
    [
        MINIMAL,
        WHOLE,
        MINIMAL + "objective: [val_dice, trained_parameters]\nscales: [1.0, 0.25]\n",
        MINIMAL + "scheduler: {kind: none}\nsampler: {kind: random}\npatience: 3\n",
    ],
)
def test_dumped_config_loads_as_an_equal_one(load_space: LoadSpace, text: str) -> None:
    config = load_space(text)
    assert load_space(yaml.safe_dump(config.to_dict(), sort_keys=False)) == config
    assert pickle.loads(pickle.dumps(config)) == config


@pytest.mark.parametrize(
    ("text", "where", "words"),
    [
        ("[1, 2]\n", "tiny.yaml", "must be a mapping, but got a list"),
        ("num_trials: 1\n", "tiny.yaml", "has no space"),
        ("space: {}\n", "1 space", "the space is empty"),
        ("space:\n", "1 space", "must be a mapping, but got nothing"),
        (MINIMAL + "num_trails: 4\n", "3 num_trails", "did you mean 'num_trials'?"),
        (MINIMAL + "num_trials: 0\n", "3 num_trials", "at least 1, but got 0"),
        (MINIMAL + "patience: -1\n", "3 patience", "at least 0, but got -1"),
        (MINIMAL + "scales: 0.5\n", "3 scales", "must be a list"),
        (MINIMAL + "scales: []\n", "3 scales", "is empty"),
        (MINIMAL + "scales: [1, 0.5, 1.0]\n", "3 scales", "names a scale twice"),
        (MINIMAL + "scales: [1, 0]\n", "3 scales[1]", "must be one of 0.25, 0.5, 0.75, 1, 1.25, but got 0 (int)"),
        (MINIMAL + "scales: [1, half]\n", "3 scales[1]", "but got 'half'"),
        (MINIMAL + "max_epochs: true\n", "3 max_epochs", "whole number"),
        (MINIMAL + "max_epochs: 2.5\n", "3 max_epochs", "2.5 (float)"),
        (MINIMAL + "max_epochs: '8'\n", "3 max_epochs", "write 8, without quotes"),
        (MINIMAL + "name: 7\n", "3 name", "must be text"),
        (MINIMAL + "name: ' '\n", "3 name", "is blank"),
        (MINIMAL + "protocol: bx\n", "3 protocol", "did you mean 'box'?"),
        (MINIMAL + "protocol: [box]\n", "3 protocol", "got a list"),
        (MINIMAL + "scheduler: asha\n", "3 scheduler", "must be a mapping"),
        (MINIMAL + "scheduler: {kind: ashy}\n", "3 scheduler.kind", "did you mean 'asha'?"),
        (MINIMAL + "scheduler: {kind: null}\n", "3 scheduler.kind", "must be one of asha, promotion, racing, none"),
        (MINIMAL + "scheduler: {grace: 2}\n", "3 scheduler.grace", "did you mean 'grace_period'?"),
        (MINIMAL + "scheduler: {grace_period: 9}\n", "3 scheduler.grace_period", "max_epochs=8"),
        (MINIMAL + "scheduler: {reduction_factor: 1}\n", "3 scheduler.reduction_factor", "at least 2"),
        (MINIMAL + "scheduler: {kind: none, grace_period: 2}\n", "3 scheduler.grace_period", "no effect"),
        (MINIMAL + "sampler: {startup_trials: 0}\n", "3 sampler.startup_trials", "at least 1"),
        (MINIMAL + "fixed: {optim.lr: 0.1}\n", "3 fixed.optim.lr", "searched in line 2"),
        (MINIMAL + "fixed: {adapter.rank: 0}\n", "3 fixed.adapter.rank", "at least 1, but got 0"),
        (MINIMAL + "fixed: {adapter.rank: 1e1}\n", "3 fixed.adapter.rank", "write 10, without quotes"),
        (MINIMAL + "fixed: {loss.dcie: 1}\n", "3 fixed.loss.dcie", "did you mean 'loss.dice'?"),
        (MINIMAL + "fixed: {loss.dice: }\n", "3 fixed.loss.dice", "got nothing"),
        (MINIMAL + "start_from: {optim.lr: 0.01}\n", "3 start_from", "must be a list"),
        (MINIMAL + "start_from: [{}]\n", "3 start_from[0]", "no values"),
        (MINIMAL + "start_from: [7]\n", "3 start_from[0]", "must be a mapping"),
        (MINIMAL + "start_from: [{optim.lr: 0.011}]\n", "3 start_from[0].optim.lr", "outside the space"),
        (MINIMAL + "start_from: [{optim.lt: 0.01}]\n", "3 start_from[0].optim.lt", "did you mean 'optim.lr'"),
        (MINIMAL + "start_from: [{loss.dice: 1}]\n", "3 start_from[0].loss.dice", "not in the space"),
        (MINIMAL + "start_from: [{optim.lr: 1e-3}]\n", "3 start_from[0].optim.lr", "write 1.0e-3"),
        (
            MINIMAL + "start_from:\n- {name: a, optim.lr: 0.001}\n- {name: a, optim.lr: 0.002}\n",
            "5 start_from[1].name",
            "another starting point is named 'a'",
        ),
    ],
)
def test_one_fault_is_reported_once_with_its_place(list_faults: ListFaults, text: str, where: str, words: str) -> None:
    ((place, found),) = list_faults(text)
    assert place == where
    assert words in found


@pytest.mark.parametrize(
    ("parameter", "where", "words"),
    [
        ("adapter.rnak: {choice: [4, 8]}", "adapter.rnak", "did you mean 'adapter.rank'?"),
        ("adapter: {rank: {choice: [4, 8]}}", "adapter", "write flat names, such as adapter.kind"),
        ("adapter.rank: 8", "adapter.rank", "under fixed"),
        ("adapter.rank: [4, 8]", "adapter.rank", "write {choice: [...]}"),
        ("adapter.rank: {}", "adapter.rank", "says no values -> write {choice: [...]}"),
        ("adapter.rank: {choices: [4, 8]}", "adapter.rank.choices", "did you mean 'choice'?"),
        ("adapter.rank: {choice: 4}", "adapter.rank.choice", "must be a list"),
        ("adapter.rank: {choice: []}", "adapter.rank.choice", "the choice is empty"),
        ("adapter.rank: {choice: [4]}", "adapter.rank.choice", "under fixed, as adapter.rank: 4"),
        ("adapter.train_heads: {choice: [true]}", "adapter.train_heads.choice", "as adapter.train_heads: true"),
        ("adapter.rank: {choice: [4, 8, 4]}", "adapter.rank.choice", "holds 4 more than once"),
        ("adapter.alpha: {choice: [4, 4.0]}", "adapter.alpha.choice", "holds 4.0 more than once"),
        ("adapter.rank: {choice: [4, '8']}", "adapter.rank.choice[1]", "write 8, without quotes"),
        ("adapter.rank: {choice: [4, true]}", "adapter.rank.choice[1]", "must be int, but got True"),
        ("adapter.rank: {choice: [4, 8.0]}", "adapter.rank.choice[1]", "must be int, but got 8.0"),
        ("adapter.rank: {choice: [4, [8]]}", "adapter.rank.choice[1]", "got a list"),
        ("adapter.rank: {choice: [4, 257]}", "adapter.rank.choice[1]", "at most 256"),
        ("adapter.targets: {choice: [both, all]}", "adapter.targets.choice[1]", "must be one of image_encoder"),
        ("adapter.train_heads: {choice: [true, 1]}", "adapter.train_heads.choice[1]", "must be bool"),
        ("adapter.targets: {low: 1, high: 2}", "adapter.targets", "has no range"),
        ("adapter.train_heads: {low: 0, high: 1}", "adapter.train_heads", "{choice: [true, false]}"),
        ("adapter.rank: {choice: [4, 8], low: 4}", "adapter.rank", "has choice and low"),
        ("adapter.rank: {low: 4}", "adapter.rank", "has no high"),
        ("adapter.rank: {low: 4.0, high: 8}", "adapter.rank.low", "must be int, but got 4.0"),
        ("adapter.rank: {low: 8, high: 4}", "adapter.rank", "low=8, high=4"),
        ("adapter.rank: {low: 4, high: 4}", "adapter.rank", "under fixed, as adapter.rank: 4"),
        ("adapter.rank: {low: 4, high: 9, step: 2}", "adapter.rank", "step=2 does not divide"),
        ("adapter.rank: {low: 4, high: 8, step: 0}", "adapter.rank.step", "positive int, but got 0"),
        ("adapter.rank: {low: 4, high: 8, step: 2.0}", "adapter.rank.step", "positive int, but got 2.0"),
        ("adapter.rank: {low: 4, high: 8, step: 8}", "adapter.rank", "does not divide"),
        ("adapter.rank: {low: 4, high: 8, step: 2, log: true}", "adapter.rank", "exclude each other"),
        ("adapter.rank: {low: 4, high: 8, log: 1}", "adapter.rank.log", "true or false"),
        ("adapter.dropout: {low: 0.0, high: 0.5, log: true}", "adapter.dropout", "log needs low > 0"),
        ("adapter.dropout: {low: 0.0, high: 0.5, step: .nan}", "adapter.dropout.step", "positive float"),
        ("adapter.dropout: {low: 0.0, high: 0.5, step: 1.0e-300}", "adapter.dropout", "leave step out"),
        ("adapter.dropout: {low: 0.0, high: 0.5, step: 1e-1}", "adapter.dropout.step", "write 1.0e-1"),
        ("adapter.dropout: {low: 0.0, high: 0.95}", "adapter.dropout.high", "at most 0.9"),
        ("adapter.dropout: {low: -0.1, high: 0.5}", "adapter.dropout.low", "at least 0"),
        ("optim.weight_decay: {low: 1e-4, high: 0.1}", "optim.weight_decay.low", "write 1.0e-4, without quotes"),
        ("optim.weight_decay: {low: 0.1, high: .inf}", "optim.weight_decay.high", "must be finite"),
    ],
)
def test_faults_of_a_parameter(list_faults: ListFaults, parameter: str, where: str, words: str) -> None:
    ((place, found),) = list_faults(f"{MINIMAL}  {parameter}\n")
    assert place == f"3 space.{where}"
    assert words in found


def test_all_faults_come_at_once_by_line(list_faults: ListFaults) -> None:
    findings = list_faults(
        "num_trials: 0\n"
        "max_epochs: -1\n"
        "scheduler: {kind: asha, grace_period: 4, reduction_factor: x}\n"
        "space:\n"
        "  adapter.rnak: {choice: [4, 8]}\n"
        "  optim.lr: {low: 1e-4, high: 2}\n"
        "  loss.dice: {low: 3, high: 1, step: -1}\n"
        "fixed: {loss.dice: -1, optim.lr: a}\n"
        "num_trials: 3\n"
        "start_from: [{optim.lr: 1.0e-3, adapter.rnak: 4, loss.dice: 2, loss.iou: 1}]\n"
    )
    assert [place for place, _ in findings] == [
        "1 num_trials",
        "1 num_trials",
        "2 max_epochs",
        "3 scheduler.reduction_factor",
        "5 space.adapter.rnak",
        "6 space.optim.lr.low",
        "6 space.optim.lr.high",
        "7 space.loss.dice.step",
        "7 space.loss.dice",
        "8 fixed.loss.dice",
        "8 fixed.optim.lr",
        "8 fixed.loss.dice",
        "8 fixed.optim.lr",
        "10 start_from[0].loss.iou",
    ]
    assert len(set(findings)) == len(findings)


@pytest.mark.parametrize("text", ["lora", "lora.yaml"])
def test_shipped_space_is_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.chdir(tmp_path)
    path = find_space(text)
    assert path.is_absolute() and path.name == "lora.yaml" and path.parent.name == "spaces"
    assert "lora.yaml" in list_spaces()


def test_existing_file_wins_over_a_shipped_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lora.yaml").write_text(MINIMAL)
    monkeypatch.chdir(tmp_path)
    assert find_space("lora.yaml") == (tmp_path / "lora.yaml").resolve()
    os.mkdir("lora")
    assert find_space("lora").parent.name == "spaces"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("loar", "did you mean lora.yaml?"),
        ("", "shipped are: "),
        ("../spaces/lora", "neither a file"),
        ("nul\0", "neither a file"),
        ("x" * 5000, "neither a file"),
        (".", "is a folder"),
    ],
)
def test_unknown_space_names_the_shipped_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        find_space(text)
    assert words in str(caught.value) and "lora.yaml" in str(caught.value)

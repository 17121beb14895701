"""Conditions of a space file are read, or refused with everything that is wrong with them."""

from __future__ import annotations

import pickle
from collections.abc import Callable

import pytest
import yaml

from search.space.config import SearchConfig
from search.space.parameters import Condition, list_conditions

ListFaults = Callable[[str], list[tuple[str, str]]]
LoadSpace = Callable[[str], SearchConfig]

# Conditions of the tests begin in line 9.
HEAD = """\
fixed:
  prompts.mix: box
  adapter.targets: both
space:
  augment.kind: {choice: [flips, color, all]}
  adapter.train_heads: {choice: [true, false]}
  optim.batch_size: {low: 2, high: 8, step: 2}
  optim.lr: {low: 1.0e-4, high: 1.0e-2}
"""


def make_strength(when: str) -> str:
    return f"{HEAD}  augment.strength: {{low: 0.05, high: 0.5, when: {when}}}\n"


@pytest.mark.parametrize(
    ("when", "conditions"),
    [
        ("{augment.kind: color}", [Condition("augment.kind", ("color",))]),
        ("{augment.kind: [color, all]}", [Condition("augment.kind", ("color", "all"))]),
        ("{augment.kind: [color]}", [Condition("augment.kind", ("color",))]),
        ("{adapter.train_heads: false}", [Condition("adapter.train_heads", (False,))]),
        ("{optim.batch_size: [2, 8]}", [Condition("optim.batch_size", (2, 8))]),
        ("{prompts.mix: [box, mixed]}", [Condition("prompts.mix", ("box", "mixed"))]),
        (
            "{prompts.mix: box, adapter.train_heads: true, augment.kind: all}",
            [
                Condition("prompts.mix", ("box",)),
                Condition("adapter.train_heads", (True,)),
                Condition("augment.kind", ("all",)),
            ],
        ),
    ],
)
def test_conditions_are_read_and_dumped(load_space: LoadSpace, when: str, conditions: list[Condition]) -> None:
    config = load_space(make_strength(when))
    assert config.space["augment.strength"].when == tuple(conditions)
    searched = tuple(one for one in conditions if one.name != "prompts.mix")
    assert list_conditions(config.space) == ({"augment.strength": searched} if searched else {})
    assert load_space(yaml.safe_dump(config.to_dict(), sort_keys=False)) == config
    assert pickle.loads(pickle.dumps(config)) == config


@pytest.mark.parametrize("kind", ["choice: [4, 8]", "low: 4, high: 8", "low: 4, high: 8, log: true"])
def test_every_kind_of_parameter_can_have_conditions(load_space: LoadSpace, kind: str) -> None:
    text = f"{HEAD}  adapter.rank: {{{kind}, when: {{augment.kind: [color, all]}}}}\n"
    config = load_space(text)
    assert config.space["adapter.rank"].when == (Condition("augment.kind", ("color", "all")),)
    assert load_space(yaml.safe_dump(config.to_dict())) == config


@pytest.mark.parametrize(
    ("when", "where", "words"),
    [
        ("color", "", "must be a mapping, but got 'color' (text)"),
        ("{}", "", "the condition names no parameter"),
        ("[augment.kind]", "", "must be a mapping"),
        ("{augment.knid: color}", ".augment.knid", "did you mean 'augment.kind'?"),
        ("{prompts.mx: box}", ".prompts.mx", "did you mean 'prompts.mix'?"),
        ("{adapter.rank: 8}", ".adapter.rank", "adapter.rank is not in the space -> put it under fixed"),
        ("{optim.lr: 0.001}", ".optim.lr", "optim.lr is a range of real numbers"),
        ("{augment.kind: stain}", ".augment.kind", "never 'stain' -> the space has choice: ['flips', 'color'"),
        ("{augment.kind: [color, stain]}", ".augment.kind[1]", "augment.kind is never 'stain'"),
        ("{augment.kind: [color, stian]}", ".augment.kind[1]", "must be one of none, flips"),
        ("{augment.kind: [color, color]}", ".augment.kind[1]", "holds 'color' more than once"),
        ("{augment.kind: []}", ".augment.kind", "the condition has no values"),
        ("{augment.kind: }", ".augment.kind", "got nothing"),
        ("{augment.kind: {choice: [color]}}", ".augment.kind", "got a mapping"),
        ("{adapter.train_heads: 1}", ".adapter.train_heads", "must be bool, but got 1"),
        ("{optim.batch_size: 3}", ".optim.batch_size", "never 3 -> the space has low: 2, high: 8, step: 2"),
        ("{optim.batch_size: 10}", ".optim.batch_size", "optim.batch_size is never 10"),
        ("{optim.batch_size: 2.0}", ".optim.batch_size", "must be int, but got 2.0"),
        ("{augment.strength: 0.1}", ".augment.strength", "augment.strength depends on itself"),
        ("{prompts.mix: mixed}", ".prompts.mix", "can never apply: prompts.mix is fixed to 'box' in line 2"),
        ("{prompts.mix: [mixed, points]}", ".prompts.mix", "augment.strength can never apply"),
        ("{prompts.mix: boxes}", ".prompts.mix", "must be one of protocol, box"),
    ],
)
def test_faults_of_a_condition(list_faults: ListFaults, when: str, where: str, words: str) -> None:
    ((place, found),) = list_faults(make_strength(when))
    assert place == f"9 space.augment.strength.when{where}"
    assert words in found


RANK = "  adapter.rank: {choice: [4, 8], when: {%s}}\n"
ALPHA = "  adapter.alpha: {choice: [4, 8], when: {%s}}\n"
FOCAL = "  loss.focal: {low: 1, high: 2, when: {%s}}\n"


@pytest.mark.parametrize(
    ("text", "where", "words"),
    [
        (
            RANK % "adapter.alpha: 4" + ALPHA % "adapter.rank: 8",
            "9 space.adapter.rank.when.adapter.alpha",
            "conditions form a circle: adapter.rank -> adapter.alpha -> adapter.rank",
        ),
        (
            FOCAL % "adapter.rank: 4"
            + RANK % "adapter.alpha: 4"
            + ALPHA % "optim.batch_size: 2, prompts.max_objects: 1"
            + "  prompts.max_objects: {low: 1, high: 2, when: {adapter.rank: 4, augment.kind: all}}\n",
            "10 space.adapter.rank.when.adapter.alpha",
            "adapter.rank -> adapter.alpha -> prompts.max_objects -> adapter.rank",
        ),
    ],
)
def test_conditions_in_circles(list_faults: ListFaults, text: str, where: str, words: str) -> None:
    ((place, found),) = list_faults(HEAD + text)
    assert place == where
    assert words in found


def test_conditions_that_overlap_are_accepted(load_space: LoadSpace) -> None:
    text = RANK % "augment.kind: [color, all]" + ALPHA % "adapter.rank: 4, augment.kind: [flips, all]"
    assert len(load_space(HEAD + text).space) == 6


def test_conditions_that_can_never_hold_together(list_faults: ListFaults) -> None:
    text = (
        RANK % "augment.kind: [color, all]"
        + ALPHA % "adapter.rank: 4, augment.kind: flips"
        + FOCAL % ("adapter.alpha: 8, adapter.train_heads: true")
    )
    (place, found), (other, _) = list_faults(HEAD + text)  # what depends on it never applies either
    assert (place, other) == ("10 space.adapter.alpha.when", "11 space.loss.focal.when")
    assert "its conditions never hold" in found and "different values of augment.kind" in found


def test_all_faults_come_at_once_by_line(list_faults: ListFaults) -> None:
    findings = list_faults(
        "space:\n"
        "  augment.kind: {choice: [flips, color], when: {loss.dcie: 1}}\n"
        "  adapter.rank: {choice: [4], when: {augment.kind: stain, optim.lr: 1}}\n"
        "  optim.lr: {low: 1.0e-4, high: 1.0e-2, when: {adapter.rank: 4}}\n"
        "  adapter.alpha: {choice: [4, 8], when: {adapter.dropout: 0.1}}\n"
        "  adapter.dropout: {choice: [0.0, 0.1], when: {adapter.alpha: 8, adapter.targets: both}}\n"
        "  optim.batch_size: 4\n"
        "  loss.iou: {low: 1, high: 2, when: {optim.batch_size: 4, prompts.mix: boxes}}\n"
        "fixed: {adapter.targets: image_encoder, prompts.mix: 7}\n"
    )
    assert [place for place, _ in findings] == [
        "2 space.augment.kind.when.loss.dcie",
        "3 space.adapter.rank.choice",
        "3 space.adapter.rank.when.augment.kind",
        "3 space.adapter.rank.when.optim.lr",
        "5 space.adapter.alpha.when.adapter.dropout",
        "6 space.adapter.dropout.when.adapter.targets",
        "7 space.optim.batch_size",
        "9 fixed.prompts.mix",
    ]
    assert len(set(findings)) == len(findings)

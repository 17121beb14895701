"""Space files with one mistake each: the finding names the line and the rule."""

from __future__ import annotations

from pathlib import Path

import pytest

from search.errors import ConfigError
from search.space.config import load_config
from trainables.files.yaml_lines import MAX_BYTES

LR = "  optim.lr: {low: 1.0e-4, high: 1.0e-2, log: true}\n"

MISTAKES: dict[str, tuple[str | bytes, str, str]] = {
    "unknown key": ("nam: x\nspace:\n" + LR, "mine.yaml:1 nam", "did you mean 'name'?"),
    "unknown field": ("space:\n  adapter.rnak: {choice: [4]}\n", "mine.yaml:2 space.adapter.rnak", "adapter.rank"),
    "unknown key of a range": ("space:\n  optim.lr: {low: 1.0e-4, hgih: 1.0e-2}\n", "mine.yaml:2", "high"),
    "text for a number": ("num_trials: many\nspace:\n" + LR, "mine.yaml:1 num_trials", "whole number"),
    "number in quotes": ("num_trials: '8'\nspace:\n" + LR, "mine.yaml:1 num_trials", "write 8, without quotes"),
    "exponent that is text": ("space:\n  optim.lr: {low: 1e-4, high: 1.0e-2}\n", "mine.yaml:2", "1.0e-4"),
    "octal number": ("num_trials: 010\nspace:\n" + LR, "mine.yaml:1 num_trials", "another number"),
    "none of something": ("num_trials: 0\nspace:\n" + LR, "mine.yaml:1 num_trials", "at least 1"),
    "low above high": ("space:\n  optim.lr: {low: 1.0e-2, high: 1.0e-4}\n", "mine.yaml:2", "low"),
    "log of zero": ("space:\n  loss.focal: {low: 0.0, high: 1.0, log: true}\n", "mine.yaml:2", "log"),
    "infinity": ("space:\n  optim.lr: {low: 1.0e-4, high: .inf}\n", "mine.yaml:2 space.optim.lr.high", "finite"),
    "not a number": ("space:\n  optim.lr: {low: .nan, high: 1.0e-2}\n", "mine.yaml:2 space.optim.lr.low", "finite"),
    "no values": ("space:\n  adapter.rank: {}\n", "mine.yaml:2 space.adapter.rank", "says no values"),
    "nothing for values": ("space:\n  adapter.rank:\n", "mine.yaml:2 space.adapter.rank", "says no values"),
    "list for values": ("space:\n  adapter.rank: [4, 8]\n", "mine.yaml:2", "must be a mapping, but got a list"),
    "blank name": ("name: ' '\nspace:\n" + LR, "mine.yaml:1 name", "is blank"),
    "list for a name": ("name: [a]\nspace:\n" + LR, "mine.yaml:1 name", "must be text, but got a list"),
    "empty choice": ("space:\n  adapter.rank: {choice: []}\n", "mine.yaml:2", "choice"),
    "value twice in a choice": ("space:\n  adapter.rank: {choice: [4, 4]}\n", "mine.yaml:2", "4"),
    "value that a field cannot have": ("space:\n  adapter.rank: {choice: [4, 0]}\n", "mine.yaml:2", "rank"),
    "duplicate key": ("name: a\nname: b\nspace:\n" + LR, "mine.yaml:1 name", "stands twice, in lines 1 and 2"),
    "tab": ("space:\n\toptim.lr: {low: 1.0e-4, high: 1.0e-2}\n", "mine.yaml:2", "tab"),
    "open bracket": ("space: {optim.lr: {low: 1.0e-4\n", "mine.yaml", "brackets"),
    "alias": ("name: &n x\ndescription: *n\nspace:\n" + LR, "mine.yaml:2", "aliases"),
    "python tag": ("name: !!python/object/apply:os.abort []\nspace:\n" + LR, "mine.yaml:1 name", "not supported"),
    "deep nesting": ("space: " + "[" * 90 + "]" * 90, "mine.yaml:1", "levels deep"),
    "brackets without end": ("space: " + "[" * 50_000, "mine.yaml:1", "not valid YAML"),
    "key that is a number": ("1: x\nspace:\n" + LR, "mine.yaml:1", "a key must be text"),
    "list of keys": ("- name: x\n", "mine.yaml", "must be a mapping"),
    "empty file": ("", "mine.yaml", "empty"),
    "comments alone": ("# nothing\n", "mine.yaml", "empty"),
    "no space": ("name: x\n", "mine.yaml", "has no space"),
    "not UTF-8": (b"name: \xff\xfe\n", "mine.yaml", "not UTF-8"),
    "a picture": (b"\x89PNG\r\n\x1a\n" + bytes(100), "mine.yaml", "UTF-8"),
    "too large": (b"#" * (MAX_BYTES + 1), "mine.yaml", "over 1 MB"),
    "fixed and searched": ("fixed: {optim.lr: 1.0e-3}\nspace:\n" + LR, "mine.yaml:1", "fixed here and searched"),
    "condition on nothing": (
        "space:\n  adapter.rank: {choice: [4, 8], when: {adapter.kind: [lora]}}\n",
        "mine.yaml:2",
        "adapter.kind",
    ),
    "condition that cannot hold": (
        "space:\n  adapter.kind: {choice: [lora, dora]}\n"
        "  adapter.rank: {choice: [4, 8], when: {adapter.kind: [adalora]}}\n",
        "mine.yaml:3",
        "adalora",
    ),
    "condition on itself": (
        "space:\n  adapter.rank: {choice: [4, 8], when: {adapter.rank: [4]}}\n",
        "mine.yaml:2",
        "adapter.rank",
    ),
    "grace longer than a trial": (
        "max_epochs: 2\nscheduler: {kind: asha, grace_period: 3}\nspace:\n" + LR,
        "mine.yaml:2",
        "grace_period <= max_epochs",
    ),
    "unknown protocol": ("protocol: boxes\nspace:\n" + LR, "mine.yaml:1 protocol", "'box'"),
    "starting point outside": (
        "space:\n" + LR + "start_from:\n  - {optim.lr: 1.0}\n",
        "mine.yaml:4 start_from[0].optim.lr",
        "outside the space",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(name: str, tmp_path: Path) -> None:
    text, where, what = MISTAKES[name]
    path = tmp_path / "mine.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    found = [each for each in caught.value.findings if each.where.startswith(where)]
    assert any(what in f"{each.what} -> {each.fix}" for each in found), str(caught.value)

"""Names of runs: they say what a trial is and how it ended, and are not doubled by a second end."""

from typing import Any

import pytest

from search.mlflow_pages.run_names import add_end, mark_winner, name_repeat, name_trial, spell_number

LORA = {"adapter.kind": "lora", "adapter.rank": 16, "optim.lr": 2e-4}


@pytest.mark.parametrize(
    ("config", "protocol", "name"),
    [
        (LORA, "", "trial 07 · r16 · lr 2e-4"),
        ({**LORA, "optim.lr": 1.63e-4}, "", "trial 07 · r16 · lr 1.6e-4"),
        ({**LORA, "adapter.kind": "bottleneck"}, "", "trial 07 · bottleneck · r16 · lr 2e-4"),
        ({**LORA, "adapter.kind": "none"}, "", "trial 07 · none · lr 2e-4"),
        ({}, "box-neg", "trial 07 · box-neg"),
        ({}, "", "trial 07"),
    ],
)
def test_a_trial(config: dict[str, Any], protocol: str, name: str) -> None:
    assert name_trial("trial", spell_number("7"), config, protocol) == name


def test_a_repeat_is_named_after_its_trial() -> None:
    assert name_repeat("confirmation", spell_number("7"), 2) == "confirmation · trial 07 · seed 2"
    assert name_repeat("refit", spell_number("00a7cac8"), 2) == "refit · trial 00a7cac8 · seed 2"


def test_ends_and_winners_replace_each_other() -> None:
    name = "trial 07 · r16"
    stopped = add_end(add_end(name, "stopped at 2"), "stopped at 3")
    assert stopped == "trial 07 · r16 · stopped at 3"
    assert add_end(add_end(stopped, "failed"), "") == name
    won = mark_winner(mark_winner(stopped, True), True)
    assert won == "winner · trial 07 · r16 · stopped at 3" and mark_winner(won, False) == stopped

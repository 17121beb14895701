"""What keys of a space file say to each other, reported at the line that has to change."""

from __future__ import annotations

from collections.abc import Callable

import pytest

ListFaults = Callable[[str], list[tuple[str, str]]]
TRAINED = "space:\n  optim.lr: {low: 1.0e-4, high: 1.0e-2, log: true}\n"
UNTRAINED = "train: false\nspace:\n  protocol.tta: {choice: [none, all]}\n"
REPLAY = "fixed: {adapter.rank: 4}\n"


@pytest.mark.parametrize(
    ("text", "where", "words"),
    [
        (TRAINED + "max_epochs: 3\nscheduler: {grace_period: 4}\n", "4 scheduler.grace_period", "max_epochs=3"),
        (TRAINED + "fixed: {protocol.tta: all}\n", "3 fixed.protocol.tta", "write train: false"),
        (UNTRAINED + "fixed: {optim.lr: 0.1}\n", "4 fixed.optim.lr", "no effect with train: false"),
        (UNTRAINED + "max_epochs: 4\n", "4 max_epochs", "zero-shot has no epochs"),
        (UNTRAINED + "objective: val_iou\n", "4 objective", "are no ranking"),
        (UNTRAINED + "scheduler: {kind: asha}\n", "4 scheduler", "no effect on train: false"),
        (REPLAY + "scheduler: {kind: asha}\n", "2 scheduler", "no effect on a single trial"),
        (REPLAY + "num_trials: 3\n", "2 num_trials", "every trial is the same"),
        (REPLAY + "start_from: recorded\n", "2 start_from", "no effect without a space"),
        (TRAINED + "fixed: {adapter.kind: none, adapter.train_heads: false}\n", "3 fixed", "nothing is trained"),
        (
            "space:\n  adapter.kind: {choice: [lora, none]}\nfixed: {adapter.train_heads: false}\n",
            "2 space.adapter.kind",
            "nothing is trained",
        ),
    ],
)
def test_a_contradiction_is_reported_once(list_faults: ListFaults, text: str, where: str, words: str) -> None:
    ((place, found),) = list_faults(text)
    assert place == where and words in found


@pytest.mark.parametrize(
    "text",
    [
        TRAINED + "max_epochs: 3\nscheduler: {grace_period: 3}\n",
        UNTRAINED + "scheduler: {kind: none}\n",
        REPLAY + "scheduler: {kind: none}\nnum_trials: 1\n",
        UNTRAINED + "fixed: {protocol.closing_px: 3}\n",
    ],
)
def test_what_agrees_is_taken(list_faults: ListFaults, text: str) -> None:
    assert list_faults(text) == []

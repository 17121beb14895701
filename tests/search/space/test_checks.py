"""Keys of a space file that contradict each other, or no protocol can have, are reported at the line to change."""

from collections.abc import Callable

import pytest

ListFaults = Callable[[str], list[tuple[str, str]]]
TRAINED = "space:\n  optim.lr: {low: 1.0e-4, high: 1.0e-2, log: true}\n"
UNTRAINED = "train: false\nspace:\n  protocol.tta: {choice: [none, all]}\n"
REPLAY = "fixed: {adapter.rank: 4}\n"
PARTS = "train: false\nprotocol: recorded\n"
PROMPTS = PARTS + "space:\n  protocol.prompt: {choice: [box, points]}\n"


@pytest.mark.parametrize(
    ("text", "where", "words"),
    [
        (TRAINED + "max_epochs: 3\nscheduler: {grace_period: 4}\n", "4 scheduler.grace_period", "max_epochs=3"),
        (TRAINED + "fixed: {protocol.tta: all}\n", "3 fixed.protocol.tta", "write train: false"),
        (UNTRAINED + "fixed: {optim.lr: 0.1}\n", "4 fixed.optim.lr", "no effect with train: false"),
        (UNTRAINED + "max_epochs: 4\n", "4 max_epochs", "zero-shot has no epochs"),
        (UNTRAINED + "objective: val_iou\n", "4 objective", "are no ranking"),
        (UNTRAINED + "scheduler: {kind: asha}\n", "4 scheduler", "no effect on train: false"),
        (UNTRAINED + "scales: [1.0, 0.5]\n", "4 scales", "no effect with train: false"),
        (REPLAY + "scheduler: {kind: asha}\n", "2 scheduler", "no effect on a single trial"),
        (REPLAY + "num_trials: 3\n", "2 num_trials", "every trial is the same"),
        (REPLAY + "start_from: recorded\n", "2 start_from", "no effect without a space"),
        (TRAINED + "fixed: {adapter.kind: none, adapter.train_heads: false}\n", "3 fixed", "nothing is trained"),
        (
            "space:\n  adapter.kind: {choice: [lora, none]}\nfixed: {adapter.train_heads: false}\n",
            "2 space.adapter.kind",
            "nothing is trained",
        ),
        (
            "space: {optim.warmup_steps: {low: 0, high: 10}, optim.warmup_epochs: {low: 0.0, high: 3.0}}\n"
            "start_from:\n  - {optim.warmup_steps: 3}\n  - {optim.warmup_steps: 3, optim.warmup_epochs: 1.0}\n",
            "2 start_from",
            "start-2: the warm-up is given 2 times",
        ),
        (PARTS + "space:\n  protocol.closing_px: {choice: [3, 4]}\n", "4 space.protocol.closing_px", "closing_px: 4"),
        (PARTS + "space:\n  protocol.closing_px: {low: 3, high: 7}\n", "4 space.protocol.closing_px", "closing_px: 4"),
        (
            PROMPTS + "  protocol.n_positive: {low: 0, high: 3}\n",
            "5 space.protocol.n_positive",
            "protocol.prompt: points, protocol.n_positive: 0",
        ),
        (
            PARTS + "fixed: {protocol.prompt: points, protocol.n_positive: 0}\nspace:\n"
            "  protocol.tta: {choice: [none, all]}\n",
            "3 fixed",
            "n_positive: 0",
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
        PARTS + "space:\n  protocol.closing_px: {low: 3, high: 7, step: 2}\n",
        PROMPTS + "  protocol.n_positive: {low: 0, high: 3, when: {protocol.prompt: box}}\n",
        PROMPTS + "  protocol.n_positive: {low: 1, high: 3, when: {protocol.prompt: points}}\n",
        PARTS + "space:\n  protocol.min_component_px: {low: 1, high: 1000000}\nfixed: {protocol.components: every}\n",
    ],
)
def test_what_agrees_is_taken(list_faults: ListFaults, text: str) -> None:
    assert list_faults(text) == []

"""A search of the protocol may not hold a protocol that cannot be."""

from __future__ import annotations

from collections.abc import Callable

import pytest

ListFaults = Callable[[str], list[tuple[str, str]]]
HEAD = "train: false\nprotocol: recorded\n"
PROMPTS = HEAD + "space:\n  protocol.prompt: {choice: [box, points]}\n"


@pytest.mark.parametrize(
    ("text", "where", "words"),
    [
        (HEAD + "space:\n  protocol.closing_px: {choice: [3, 4]}\n", "4 space.protocol.closing_px", "closing_px: 4"),
        (HEAD + "space:\n  protocol.closing_px: {low: 3, high: 7}\n", "4 space.protocol.closing_px", "closing_px: 4"),
        (
            PROMPTS + "  protocol.n_positive: {low: 0, high: 3}\n",
            "5 space.protocol.n_positive",
            "protocol.prompt: points, protocol.n_positive: 0",
        ),
        (
            HEAD + "fixed: {protocol.prompt: points, protocol.n_positive: 0}\nspace:\n"
            "  protocol.tta: {choice: [none, all]}\n",
            "3 fixed",
            "n_positive: 0",
        ),
    ],
)
def test_values_that_no_protocol_has_are_reported_with_what_they_meet(
    list_faults: ListFaults, text: str, where: str, words: str
) -> None:
    ((place, found),) = list_faults(text)
    assert place == where and words in found


@pytest.mark.parametrize(
    "text",
    [
        HEAD + "space:\n  protocol.closing_px: {low: 3, high: 7, step: 2}\n",
        PROMPTS + "  protocol.n_positive: {low: 0, high: 3, when: {protocol.prompt: box}}\n",
        PROMPTS + "  protocol.n_positive: {low: 1, high: 3, when: {protocol.prompt: points}}\n",
        HEAD + "space:\n  protocol.min_component_px: {low: 1, high: 1000000}\n"
        "fixed: {protocol.components: every}\n",
    ],
    ids=["odd closings", "boxes alone", "points", "a wide range"],
)
def test_what_every_trial_can_have_is_taken(list_faults: ListFaults, text: str) -> None:
    assert list_faults(text) == []

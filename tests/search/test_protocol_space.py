"""A search of the protocol may not hold a protocol that cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from search.config import load_config
from search.errors import ConfigError
from trainables.protocol import PROTOCOLS

HEAD = "train: false\nprotocol: recorded\n"
PROMPTS = HEAD + "space:\n  protocol.prompt: {choice: [box, points]}\n"


def list_faults(folder: Path, text: str) -> list[tuple[str, str]]:
    path = folder / "a.yaml"
    path.write_text(text)
    try:
        load_config(path, PROTOCOLS)
    except ConfigError as error:
        return [(fault.where.removeprefix("a.yaml:"), f"{fault.what} -> {fault.fix}") for fault in error.findings]
    return []


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
def test_values_that_no_protocol_has_are_told_with_what_they_meet(
    tmp_path: Path, text: str, where: str, words: str
) -> None:
    ((place, told),) = list_faults(tmp_path, text)
    assert place == where and words in told


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
def test_what_every_trial_can_have_is_taken(tmp_path: Path, text: str) -> None:
    assert list_faults(tmp_path, text) == []

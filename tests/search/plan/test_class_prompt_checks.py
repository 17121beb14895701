"""Spaces and protocols that contradict each other about class prompts are refused before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from search.plan.class_prompt_checks import check_class_prompts, list_tokens
from search.space.config import load_config
from trainables.protocol.spec import PROTOCOLS

LR = "optim.lr: {low: 1.0e-4, high: 1.0e-2}"
KIND = "augment.kind: {choice: [flips, color]}"


def check(tmp_path: Path, fixed: str, space: str, protocol: str, names_masks: bool = False) -> tuple[set[int], str]:
    path = tmp_path / "mine.yaml"
    path.write_text(f"fixed: {{{fixed}}}\nspace: {{{space}}}\n")
    config = load_config(path)
    found = check_class_prompts(config, PROTOCOLS[protocol], names_masks)
    return list_tokens(config), "\n".join(str(each) for each in found)


@pytest.mark.parametrize(
    ("fixed", "space", "tokens", "fits"),
    [
        ("", LR, {0}, "box"),
        ("class_prompts.tokens: 0", LR, {0}, "box"),
        ("class_prompts.tokens: 2", LR, {2}, "auto"),
        ("", "class_prompts.tokens: {low: 1, high: 4}", {1, 4}, "auto"),
        ("", "class_prompts.tokens: {choice: [8, 1]}", {1, 8}, "auto"),
        ("", "class_prompts.tokens: {low: 0, high: 4}", {0, 4}, ""),
        ("", f"{KIND}, class_prompts.tokens: {{low: 1, high: 2, when: {{augment.kind: color}}}}", {0, 1, 2}, ""),
    ],
)
def test_tokens_and_protocol_must_go_together(
    tmp_path: Path, fixed: str, space: str, tokens: set[int], fits: str
) -> None:
    for protocol in ("auto", "box", "recorded"):
        found, text = check(tmp_path, fixed, space, protocol)
        assert found == tokens
        does_fit = fits == protocol or (fits == "box" and protocol == "recorded")
        assert bool(text) is not does_fit
        if text:
            assert "class_prompts.tokens" in text and protocol in text


def test_naming_zero_shot_masks_makes_no_sense_without_prompts(tmp_path: Path) -> None:
    assert "--clip-weights" in check(tmp_path, "class_prompts.tokens: 1", LR, "auto", names_masks=True)[1]
    assert not check(tmp_path, "", LR, "box", names_masks=True)[1]


def test_without_training_nothing_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("train: false\nspace: {protocol.tta: {choice: [none, all]}}\n")
    (found,) = check_class_prompts(load_config(path), PROTOCOLS["auto"], False)
    assert "without training" in found.what

"""Spaces and protocols that contradict each other about class prompts are refused before anything starts."""

from collections.abc import Callable
from typing import Any

import pytest

from search.plan.class_prompt_checks import check_class_prompts, list_tokens
from search.space.config import SearchConfig
from trainables.protocol.spec import PROTOCOLS

Load = Callable[[str], SearchConfig]
LR = "optim.lr: {low: 1.0e-4, high: 1.0e-2}"
KIND = "augment.kind: {choice: [flips, color]}"


@pytest.fixture
def check(load_space: Load) -> Callable[..., tuple[set[int], str]]:
    """Returns the numbers of tokens that a space may draw, and what is found against a protocol."""

    def find(fixed: str, space: str, protocol: str, names_masks: bool = False) -> tuple[set[int], str]:
        config = load_space(f"fixed: {{{fixed}}}\nspace: {{{space}}}\n")
        found = check_class_prompts(config, PROTOCOLS[protocol], names_masks)
        return list_tokens(config), "\n".join(str(each) for each in found)

    return find


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
def test_tokens_and_protocol(check: Callable[..., Any], fixed: str, space: str, tokens: set[int], fits: str) -> None:
    for protocol in ("auto", "box", "recorded"):
        found, text = check(fixed, space, protocol)
        assert found == tokens
        does_fit = fits == protocol or (fits == "box" and protocol == "recorded")
        assert bool(text) is not does_fit
        if text:
            assert "class_prompts.tokens" in text and protocol in text


def test_nothing_is_named_without_prompts_or_without_training(check: Callable[..., Any], load_space: Load) -> None:
    assert "--clip-weights" in check("class_prompts.tokens: 1", LR, "auto", names_masks=True)[1]
    assert not check("", LR, "box", names_masks=True)[1]
    untrained = load_space("train: false\nspace: {protocol.tta: {choice: [none, all]}}\n")
    (found,) = check_class_prompts(untrained, PROTOCOLS["auto"], False)
    assert "without training" in found.what

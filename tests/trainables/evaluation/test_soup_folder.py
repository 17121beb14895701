"""A soup's folder names its members by where they lie."""

import dataclasses
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from trainables.context import TrialContext
from trainables.data.splits import Fold
from trainables.errors import CheckpointError
from trainables.evaluation.soup_folder import SOUP_FILE, find_why_no_soup, is_soup, list_members, write_soup
from trainables.protocol.spec import PROTOCOLS


def test_members_are_found_again_where_the_whole_search_has_moved(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "one"
    members = [run / "confirmation" / f"trial-{name}" / "checkpoint_000003" for name in "ab"]
    write_soup(run / "soups" / "seeds", members)
    assert is_soup(run / "soups" / "seeds") and list_members(run / "soups" / "seeds") == members
    shutil.move(run, tmp_path / "two")
    moved = [tmp_path / "two" / each.relative_to(run) for each in members]
    assert list_members(tmp_path / "two" / "soups" / "seeds") == moved


def test_any_other_checkpoint_is_its_own_member(tmp_path: Path) -> None:
    assert not is_soup(tmp_path) and list_members(tmp_path) == [tmp_path]


@pytest.mark.parametrize("content", ["", "[]", "{}", "[1]", "null"])
def test_a_damaged_list_is_reported_with_its_file(tmp_path: Path, content: str) -> None:
    (tmp_path / SOUP_FILE).write_text(content)
    with pytest.raises(CheckpointError) as caught:
        list_members(tmp_path)
    assert caught.value.findings[0].where == str(tmp_path / SOUP_FILE)


@pytest.mark.parametrize(
    ("changes", "recipe", "why"),
    [
        ({}, {"adapter.kind": "lora", "fusion.kind": "none"}, ""),
        ({}, {"adapter.kind": "bottleneck"}, "cannot be merged"),
        ({}, {"adapter.kind": "lora", "fusion.kind": "concat"}, "cannot be merged"),
        ({"protocol": PROTOCOLS["auto"]}, {}, "class prompts"),
        ({"folds": (Fold(("a",), ("b",)),)}, {}, "cross-validation"),
    ],
)
def test_where_a_mean_is_no_model_the_reason_is_said(
    context: TrialContext, changes: Mapping[str, Any], recipe: Mapping[str, Any], why: str
) -> None:
    found = find_why_no_soup(dataclasses.replace(context, **changes), [recipe])
    assert found == why if not why else why in found

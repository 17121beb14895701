"""The folder of a soup: a list of the checkpoints whose mean it is, which stands wherever a checkpoint may."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trainables.context import TrialContext
from trainables.errors import CheckpointError
from trainables.files.json_reader import read_json
from trainables.files.weight_file import COPY_FIX
from trainables.files.whole_file import write_whole

SOUP_FILE = "soup.json"


def write_soup(folder: Path, checkpoints: Sequence[Path]) -> None:
    """Writes the checkpoints of a soup's members, relative to its folder, which is made: both may move together."""
    folder.mkdir(parents=True, exist_ok=True)
    places = [Path(os.path.relpath(each, folder)).as_posix() for each in checkpoints]
    write_whole(folder / SOUP_FILE, json.dumps(places, indent=1) + "\n")


def list_members(checkpoint: Path) -> list[Path]:
    """Returns the checkpoints of a soup's members; of any other checkpoint, itself alone.

    Raises:
        CheckpointError: If the list is damaged or empty.
    """
    if not is_soup(checkpoint):
        return [checkpoint]
    places = read_json(checkpoint / SOUP_FILE, list[str], COPY_FIX, CheckpointError)
    if not places:
        raise CheckpointError.at(checkpoint / SOUP_FILE, "names no members", COPY_FIX)
    return [Path(os.path.normpath(checkpoint / place)) for place in places]


def is_soup(checkpoint: Path) -> bool:
    """Returns whether a folder is that of a soup."""
    return (checkpoint / SOUP_FILE).is_file()


def find_why_no_soup(context: TrialContext, recipes: Sequence[Mapping[str, Any]]) -> str:
    """Returns why the mean of trainings is no model that could be exported; empty where it is one."""
    if context.folds:
        return "after a cross-validation, one training on all regions is exported"
    if context.protocol.is_auto:
        return "class prompts have no start in zero-shot that they share"
    if any(each.get("adapter.kind") == "bottleneck" or each.get("fusion.kind", "none") != "none" for each in recipes):
        return "what was trained cannot be merged into SAM2's weights"
    return ""

"""Damaged files of a search's folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeVar

from search.errors import ConfigError
from trainables.files.damage import tell_damage
from trainables.files.field_types import check_fields

T = TypeVar("T")

FIX = "it is damaged, or of another version of this project: bring it back from a copy, or start a new search"


def tell_damaged_record(path: Path, fix: str = FIX) -> AbstractContextManager[None]:
    """Tells whatever goes wrong within as a finding about a file of a search's folder.

    Raises:
        ConfigError: As :func:`trainables.files.damage.tell_damage` has it.
    """
    return tell_damage(path, fix, ConfigError)


def read_record(path: Path, make: Callable[[Any], T]) -> T | None:
    """Reads a data class from a JSON file; None where the search has not come that far.

    Args:
        path: The file, be it there or not.
        make: Returns the instance, whose fields are then checked, from what the file holds.

    Raises:
        ConfigError: If it is damaged.
    """
    if not path.exists():
        return None
    with tell_damaged_record(path):
        record = make(json.loads(path.read_text(encoding="utf-8")))
        check_fields(record)
    return record

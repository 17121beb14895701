"""Reads and writes the JSON files of a search's folder."""

import dataclasses
import json
from pathlib import Path
from typing import Any, Literal, TypeVar

from search.errors import ConfigError
from trainables.files.json_reader import read_json
from trainables.files.whole_file import write_whole

T = TypeVar("T")

FIX = "it is damaged, or of another version of this project: bring it back from a copy, or start a new search"


def read_record(path: Path, kind: type[T], fix: str = FIX, unknown: Literal["forbid", "ignore"] = "forbid") -> T:
    """Returns what a file holds; see :func:`trainables.files.json_reader.read_json`.

    Raises:
        ConfigError: If it is missing or damaged.
    """
    return read_json(path, kind, fix, ConfigError, unknown)


def find_record(path: Path, kind: type[T], unknown: Literal["forbid", "ignore"] = "forbid") -> T | None:
    """Returns what a file holds, or None if the search has not come that far.

    Raises:
        ConfigError: If it is damaged.
    """
    return read_record(path, kind, unknown=unknown) if path.exists() else None


def write_record(path: Path, record: Any) -> None:
    """Writes a data class, or plain values in which there may be some, whole or not at all."""
    write_whole(path, json.dumps(record, indent=1, default=dataclasses.asdict) + "\n")

"""Damaged files of a search's folder."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from search.errors import ConfigError
from trainables.damage import tell_damage

FIX = "it is damaged, or of another version of this project: bring it back from a copy, or start a new search"


def tell_damaged_record(path: Path, fix: str = FIX) -> AbstractContextManager[None]:
    """Tells whatever goes wrong within as a finding about a file of a search's folder.

    Raises:
        ConfigError: As :func:`trainables.damage.tell_damage` has it.
    """
    return tell_damage(path, fix, ConfigError)

"""Where a search's files go: a storage that can be written, a name that is free."""

from __future__ import annotations

import os
import re
from datetime import datetime
from pathlib import Path

from search.cluster.disk import MAKE_ROOM, probe_storage
from trainables.errors import Finding

# Decoded regions and the demo, shared by all searches of a storage.
CACHE_FOLDER = ".cache"
# Words that mean a single folder below the storage, wherever the file system lies.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def check_storage(storage: Path) -> list[Finding]:
    """Makes the folder of all searches where it is missing; returns why nothing can be written to it."""
    try:
        storage.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return [Finding(f"--storage {storage}", f"cannot be made: {error.strerror}", "choose another folder")]
    if not os.access(storage, os.R_OK | os.W_OK | os.X_OK):
        what = "cannot be read" if os.access(storage, os.W_OK) else "cannot be written to"
        return [Finding(f"--storage {storage}", what, "choose another folder")]
    if what := probe_storage(storage):
        fix = f"{MAKE_ROOM}, or choose another folder"
        return [Finding(f"--storage {storage}", f"cannot be written: {what}", fix)]
    return []


def name_search(space: str) -> str:
    """Names a search after its space, whose name may be any text, and the time."""
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", space).strip("-._")
    return f"{stem[:60] or 'search'}-{datetime.now():%Y%m%d-%H%M%S}"


def check_name(name: str) -> list[Finding]:
    """Returns why a name cannot be that of a folder on every file system."""
    if not _NAME.fullmatch(name):
        what = "must be 1 to 100 letters, digits, '.', '_' or '-'"
        return [Finding(f"--name {name}", what, "choose another name")]
    return []


def find_taken(storage: Path, name: str) -> list[Finding]:
    """Returns that a search's name is taken, if it is."""
    if (storage / name).is_symlink() or (storage / name).exists():
        return [Finding(f"--name {name}", f"{storage / name} exists already", "choose another name")]
    return []

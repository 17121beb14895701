"""Whether a checkpoint's folder is whole: a kill in the middle of a copy or of a deletion leaves some of its files."""

from __future__ import annotations

import json
from pathlib import Path

MANIFEST_FILE = "files.json"


def seal_checkpoint(folder: Path) -> None:
    """Writes ``files.json`` with the size in bytes of every file; to be called when all of them are written."""
    sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    (folder / MANIFEST_FILE).write_text(json.dumps(sizes, indent=1))


def is_whole(folder: Path) -> bool:
    """Returns whether every file that was sealed is there, with the size it had."""
    try:
        sizes = json.loads((folder / MANIFEST_FILE).read_text())
        return all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, AttributeError):
        return False

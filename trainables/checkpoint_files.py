"""Whether a checkpoint is whole: a kill leaves some of its files, a power cut files with nothing in them."""

from __future__ import annotations

import json
from pathlib import Path

from trainables.file_hash import hash_file

MANIFEST_FILE = "files.json"


def seal_checkpoint(folder: Path) -> None:
    """Writes ``files.json`` with the SHA-256 of every file; to be called when all of them are written."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    digests = {path.relative_to(folder).as_posix(): hash_file(path) for path in files}
    (folder / MANIFEST_FILE).write_text(json.dumps(digests, indent=1))


def is_whole(folder: Path) -> bool:
    """Returns whether every file that was sealed is there and holds what it held."""
    try:
        digests = json.loads((folder / MANIFEST_FILE).read_text())
        return all(hash_file(folder / name) == digest for name, digest in digests.items())
    except (OSError, ValueError, AttributeError):
        return False

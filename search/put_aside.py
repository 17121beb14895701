"""What an earlier end of a search has left gets another name, where the search goes on beyond it."""

from __future__ import annotations

from pathlib import Path


def put_aside(path: Path) -> None:
    """Renames a file or folder, where there is one, to the first free of ``summary-1.json``, ``export-1`` and so on."""
    if not path.exists():
        return
    number = 1
    while (aside := path.with_stem(f"{path.stem}-{number}")).exists():
        number += 1
    path.rename(aside)

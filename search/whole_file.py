"""Files that are there whole or not at all, whenever a process dies."""

from __future__ import annotations

from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """Writes a file under another name beside its own, and then gives it its own.

    Args:
        path: The file; what it held is replaced.
        text: Written in UTF-8, line ends as they are.

    Raises:
        OSError: If the folder cannot be written; the file is then as it was.
    """
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(text, encoding="utf-8", newline="")
    partial.replace(path)

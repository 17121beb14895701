"""Writes files whole or not at all, and mends their last line, whenever a process dies."""

import contextlib
import os
from pathlib import Path


def write_whole(path: Path, content: str | bytes) -> None:
    """Writes a file (text in UTF-8, line ends as they are) under another name, and renames it when the disk has it.

    Raises:
        OSError: If the folder cannot be written; the file is then as it was.
    """
    partial = path.with_name(f"{path.name}.partial")
    try:
        with partial.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())  # else a power cut may leave the new name with nothing in it
        partial.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise


def cut_torn_line(path: Path) -> bool:
    """Cuts off a last line that a kill left unfinished, as the next would join it; returns whether there was one.

    Raises:
        OSError: If the file cannot be read or written; one that is missing has no lines.
    """
    content = path.read_bytes() if path.is_file() else b""
    whole, newline, torn = content.rpartition(b"\n")
    if torn:
        os.truncate(path, len(whole + newline))  # written anew, a kill or a full disk could cost the whole lines
    return bool(torn)

"""Writes files whole or not at all, and mends their last line, whenever a process dies."""

import contextlib
import functools
import os
import time
import uuid
from pathlib import Path

_ABANDONED_S = 24 * 3600  # no write takes a day: the process that began it was killed


def write_whole(path: Path, content: str | bytes) -> None:
    """Writes a file (text in UTF-8, line ends as they are) under another name, and renames it when the disk has it.

    Each write has a name of its own, so that two processes can write one file at once: the last one to end wins.

    Raises:
        OSError: If the folder cannot be written; the file is then as it was.
    """
    _remove_abandoned(path.parent.absolute())
    partial = path.with_name(f".{uuid.uuid4().hex}.partial")
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


@functools.cache
def _remove_abandoned(folder: Path) -> None:
    """Removes what killed processes left half written in a folder: once a process, as some write thousands of files."""
    for partial in folder.glob(f".{'[0-9a-f]' * 32}.partial"):  # no file of anybody else's
        with contextlib.suppress(OSError):  # another process may remove it at the same time
            if time.time() - partial.stat().st_mtime > _ABANDONED_S:
                partial.unlink()


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
